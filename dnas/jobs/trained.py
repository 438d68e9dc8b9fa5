"""A search that has come to its end, made ready for selections (see `dnas.selection`)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas import costs
from dnas import data as datasets
from dnas.data import Augment, Dataset
from dnas.evaluators import SharedWeights, ShortTraining, Supernet
from dnas.jobs.stages import Searched
from dnas.runtime.journal import Journal
from dnas.selection import Trained
from dnas.space import Task


@dataclasses.dataclass(frozen=True)
class Classification:
    """What evaluators ask of a data set of images: inputs, loss and score."""

    data: Dataset
    augment: Augment

    @property
    def network(self) -> Task:
        """What networks are built for."""
        return Task(self.data.image_shape, self.data.classes)

    def prepare(self, key: jax.Array | None, batch: Mapping[str, jax.Array], train: bool):
        """Normalised images, in training augmented, and labels."""
        if train:
            preprocess = datasets.preprocess(self.augment, self.data.mean, self.data.std)
            return preprocess(key, batch["image"]), batch["label"]
        return datasets.normalise(batch["image"], self.data.mean, self.data.std), batch["label"]

    def loss(self, outputs: jax.Array, targets: jax.Array):
        """The mean cross-entropy, and sums over the images."""
        entropy = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        hits = (outputs.argmax(-1) == targets).sum(dtype=jnp.float32)
        sums = {"loss": entropy.sum(), "hits": hits, "count": jnp.float32(len(targets))}
        return entropy.mean(), sums

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Mean loss and accuracy."""
        count = float(sums["count"])
        return {"loss": float(sums["loss"]) / count, "accuracy": float(sums["hits"]) / count}

    def score(self, sums: Mapping[str, Any]) -> tuple[float, float]:
        """The accuracy and its standard error."""
        p, n = float(sums["hits"]) / float(sums["count"]), float(sums["count"])
        return p, float(np.sqrt(p * (1 - p) / n))


def trained(searched: Searched, task: Any, journal: Journal, progress: bool = False) -> Trained:
    """Makes what selections need of a finished search. Nothing is compiled before it is used.

    Args:
      searched: the search.
      task: what the supernet was built for.
      journal: answers what was measured before.
      progress: whether trainings show theirs.
    """
    space, method, state, feed = searched.space, searched.method, searched.state, searched.feed
    mix = method.mix(state.alphas, searched.steps)
    mix = {name: np.asarray(table) for name, table in mix.items()}
    supernet = Supernet(
        *(space, task, method, state, feed),
        optimizer=searched.preset.finetuning().weight_optimizer(1),
        going_on=searched.going_on,
        journal=journal,
    )
    short_training = ShortTraining(
        *(space, task, method, feed),
        optimizer=searched.preset.retraining().weight_optimizer,
        others=mix,
        key=searched.key,
        noise=supernet.noise,
        journal=journal,
        progress=progress,
    )
    single_paths = functools.partial(supernet.validate, state, single_path=True)
    count = functools.partial(costs.parameters, space, task.network)
    return Trained(
        space=space,
        mix=mix,
        key=searched.key,
        supernet=supernet,
        shared_weights=SharedWeights(space, single_paths, mix),
        short_training=short_training,
        parameters=count if costs.known(space) else None,
    )
