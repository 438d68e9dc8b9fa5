"""The settings in which methods are compared: spaces, data and budgets."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dnas import costs, selection
from dnas import data as datasets
from dnas.benchmarks import NASBench201
from dnas.genotype import Genotype
from dnas.gradient import hypergrad, regularize
from dnas.jobs.train import train
from dnas.parts import Part, part
from dnas.presets import PRESETS, Preset, dnas, drnas, random_weight_sharing
from dnas.presets.parts import mixing
from dnas.runtime import fingerprint
from dnas.space import SearchSpace
from dnas.spaces import DARTS
from dnas.spaces import NASBench201 as NASBench201Space
from dnas.tasks import Augment, Classification, Task
from dnas.training.recipe import Recipe

DATA, CLASSES = "cifar10", 10
CONTROLS = ("random", "largest")  # architectures without a search
IDLE = ("skip_connect", "noise")  # what degenerate cells of RobustDARTS' subsets are made of


def corrected(regularizers: tuple[Part, ...], **changes: Any) -> Preset:
    """A control: the short trainings of `dnas`, without its search or its taste for parameters.

    An epoch trains weights, which the short trainings do not use, and alphas at the regularizers
    alone.
    """
    few_skips = part(selection.limited_skips, limit=2, every_part=True)
    parts = {
        "epochs": 1,
        "warmup": 0.0,
        "hypergradient": part(hypergrad.frozen),
        "regularizers": regularizers,
        "alpha_weight_decay": 0.0,
        "selection": part(selection.short_trainings, start=few_skips),
    }
    return dnas(**{**changes, **parts})


def costliest(*, space: SearchSpace, task: Task) -> regularize.Regularizer:
    """Draws alphas to the options of most parameters."""
    found = costs.parameters(space, task)
    missing = {name: table.max() - table for name, table in found.items()}
    return regularize.expected_cost(missing, 1.0)


def four_times_as_long(epochs: int = 50, **changes: Any) -> Preset:
    """A control: random search with weight sharing for four times the epochs."""
    return random_weight_sharing(epochs=4 * epochs, **changes)


# What can be compared. Presets join by themselves; controls that search belong here, and numbers
# that do not scale with the budget in `_changes`.
METHODS: Mapping[str, Callable[..., Preset]] = {
    **PRESETS,
    "drnas_single_stage": functools.partial(drnas, modify=part(mixing), stages=()),
    "random_corrected": functools.partial(corrected, ()),
    "largest_corrected": functools.partial(corrected, (part(costliest),)),
    "random_weight_sharing_4x": four_times_as_long,
}
UNSEARCHED = (  # whose alphas learn nothing of the images
    "random_weight_sharing",
    "random_weight_sharing_4x",
    "random_corrected",
    "largest_corrected",
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and with which budget methods are compared.

    All methods get the same images, epochs and batches. What else a preset says holds, but
    learning rates of weights scale with its batches, and those of alphas by a factor: searches are
    shorter than published, so alphas have fewer steps to move in.

    Attributes:
      space: the search space, with the supernet's size.
      images: of CIFAR-10's train split; their halves are searched with.
      pool: images are averaged over squares of so many pixels.
      epochs: of the search.
      batch_size: of either half.
      alpha_factor: of the learning rate of alphas.
      recipe: how an architecture is trained, on the same images; None where a table knows.
      network: channels and cells of the trained network.
      test_images: of the test split, for trained networks.
      changes: of single presets, in place of what the rules above say.
    """

    space: SearchSpace
    images: int
    pool: int
    epochs: int
    batch_size: int = 64
    alpha_factor: float = 10.0
    recipe: Recipe | None = None
    network: Mapping[str, int] = dataclasses.field(default_factory=dict)
    test_images: int = 2
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def task(self) -> Classification:
        """What networks are built for."""
        return Classification((32 // self.pool, 32 // self.pool, 3), CLASSES)

    def describe(self) -> dict[str, Any]:
        """Its numbers as plain data: results of other numbers are not comparable."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["changes"]  # of these, a result holds its own
        return fingerprint.plain({**fields, "network": dict(self.network)})

    def preset(self, name: str) -> Preset:
        """A preset at this budget."""
        published = METHODS[name]()
        share = self.batch_size / published.batch_size
        changes = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": published.learning_rate * share,
            "final_learning_rate": published.final_learning_rate * share,
            "alpha_learning_rate": published.alpha_learning_rate * self.alpha_factor,
        }
        return METHODS[name](**{**changes, **self.changes.get(name, {})})

    def data(self, data_dir: str, seed: int) -> datasets.Dataset:
        """CIFAR-10 in small: the train images depend on the seed, the test images do not."""
        full = datasets.pooled(datasets.load(DATA, data_dir), self.pool)
        train_split = datasets.limit(full.train, self.images, seed)
        test_split = datasets.limit(full.test, self.test_images, 0)
        return dataclasses.replace(full, train=train_split, test=test_split)

    def control(self, name: str, seed: int) -> Genotype:
        """A random architecture, or the one with the most parameters."""
        if name == "random":
            return self.space.sample(np.random.default_rng(seed))
        return self.space.discretize(costs.parameters(self.space, self.task))

    def idle_by_epoch(
        self, preset: Preset, trajectory: Mapping[str, np.ndarray]
    ) -> list[float] | None:
        """The share of all edges that skip or are noise, were the search to end there.

        None where the mixing weights are not those of the whole space, as in searches by stages.
        """
        space = preset.modified(self.space)
        tables = {name: trajectory.get(f"mix/{name}") for name in space.decisions}
        if any(table is None for table in tables.values()):
            return None
        shares = []
        for epoch in range(len(next(iter(tables.values())))):
            genotype = space.discretize({name: t[epoch] for name, t in tables.items()})
            idle = [o in IDLE for part in genotype.parts() for o in genotype[part].values()]
            shares.append(round(sum(idle) / len(idle), 3))
        return shares

    def score(
        self, genotype: Genotype, seed: int, data_dir: str, table: NASBench201 | None
    ) -> dict[str, float]:
        """What an architecture is worth: by the table, or trained with this seed."""
        if self.recipe is None:
            return _look_up(table, table.number(genotype)) | idle_shares(genotype)
        space = dataclasses.replace(self.space, **self.network)
        result = train(
            space, genotype, self.data(data_dir, seed), self.recipe, seed=seed, progress=False
        )
        found = {"accuracy": 100 * result.test["accuracy"], "parameters": result.parameters}
        return found | idle_shares(genotype)


def _look_up(table: NASBench201, number: int) -> dict[str, float]:
    found = {}
    for name in table.datasets:
        every = np.asarray(table.accuracy(np.arange(5**6), name))
        found[name] = float(table.accuracy(number, name))
        found[f"rank/{name}"] = int(table.rank(number, name))
        found[f"regret/{name}"] = float(every.max() - found[name])
    return found


def idle_shares(genotype: Genotype) -> dict[str, float]:
    """For each part, the share of its edges that skip or are noise."""
    parts = {part: list(genotype[part].values()) for part in genotype.parts()}
    return {f"idle/{p}": sum(o in IDLE for o in ops) / len(ops) for p, ops in parts.items()}


def digest(preset: Preset) -> str:
    """Tells a preset's settings from others; the code of its functions is left out."""

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: numbers(item) for name, item in value.items() if name != "code"}
        return [numbers(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(numbers(fingerprint.plain(preset)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _subset(name: str) -> Setting:
    epochs, cells, pool = 16, 3, 4
    return Setting(
        space=DARTS.subset(name, channels=8, cells=cells, stem_multiplier=2),
        images=4096,
        pool=pool,
        epochs=epochs,
        recipe=Recipe(
            epochs=12,
            batch_size=64,
            learning_rate=0.05,
            weight_decay=3e-4,
            clip_norm=5.0,
            augment=Augment(crop_padding=4 // pool, flip=True),
        ),
        network={"channels": 8, "cells": cells},
        test_images=2000,
        changes=_changes(epochs),
    )


def _changes(epochs: int) -> dict[str, dict[str, Any]]:
    """What does not scale by itself: the costs of selections, and the default's own numbers."""
    return {
        **{name: {"alpha_learning_rate": 3e-3} for name in METHODS if name.startswith("dnas")},
        # Published are 5 of 50 epochs between decisions, and 1,000 samples, in far longer searches.
        "darts_pt": {"selection": part(selection.perturbation, epochs=epochs / 10)},
        "random_weight_sharing": {"selection": part(selection.best_of_samples, count=100)},
        "random_weight_sharing_4x": {"selection": part(selection.best_of_samples, count=100)},
    }


_NB201 = Setting(
    space=NASBench201Space(channels=4, cells=5),
    images=10_000,
    pool=2,
    epochs=15,
    changes=_changes(15),
)
SETTINGS: Mapping[str, Setting] = {
    "nb201": _NB201,
    "nb201_slow": dataclasses.replace(_NB201, alpha_factor=1.0),  # what does the factor do?
    **{name: _subset(name) for name in ("s1", "s2", "s3", "s4")},
}
