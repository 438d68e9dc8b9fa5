"""The evaluation of a trained network on any test split."""

import os
from collections.abc import Sequence

import jax
from flax import nnx

from dnas import checks
from dnas import data as datasets
from dnas.data.dataset import size_text
from dnas.jobs.arguments import check_data
from dnas.jobs.evaluation import Evaluation, Signature, make_evaluate
from dnas.jobs.opened import OpenedTraining
from dnas.jobs.opened import open as open_run
from dnas.jobs.train import TrainResult

BATCH_SIZE = 256


def evaluate(
    network: TrainResult | OpenedTraining | nnx.Module | str | os.PathLike,
    data: datasets.Dataset,
    *,
    batch_size: int = BATCH_SIZE,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Evaluation:
    """Tests a trained network on the test split of a data set, that of its training or another.

    It always computes, and writes nothing. Images are normalised like those of the training.

    Args:
      network: the result of a training, its directory, what `dnas.open` made of that, or the
        network alone, which does not know its normalisation.
      data: the data set, with images of the network's shape and its number of classes; only its
        test split is read.
      batch_size: images that the network reads at a time.
      mean: for a network alone, the mean of the images that it was trained on, per channel,
        scaled to [0, 1], as ``data.mean`` of its data set.
      std: likewise, their standard deviation.

    Returns:
      The score, also for each class, and the confusion matrix.

    Raises:
      ValueError: an argument does not fit, by name.
      dnas.runtime.workdir.WorkdirError: the directory is not that of a training.
      dnas.runtime.checkpoints.CheckpointError: its weights are damaged or missing.
    """
    checks.whole("batch_size", batch_size)
    check_data(data)
    if isinstance(network, nnx.Module):
        if mean is None or std is None:
            raise ValueError(
                "mean and std must be given for a network alone, those of the images that it was "
                "trained on; the result of dnas.train, or its workdir, knows them"
            )
        signature = Signature(
            data.image_shape, data.classes, tuple(mean), tuple(std), data.class_names
        )
    else:
        if mean is not None or std is not None:
            raise ValueError("mean and std are those of the training here: leave them out")
        network, signature = _trained(network)
    check_fit(signature, data)
    graph, state = nnx.split(network)

    def apply(state: nnx.State, images: jax.Array) -> jax.Array:
        key = jax.random.key(0)  # for operations that are random
        logits = nnx.merge(graph, state)(images, train=False, key=key).logits
        if logits.shape[-1] != data.classes:
            raise ValueError(
                f"data: {data.name!r} has {data.classes} classes, but the network tells "
                f"{logits.shape[-1]} apart"
            )
        return logits

    return make_evaluate(apply, signature)(state, data.test, batch_size)


def _trained(
    run: TrainResult | OpenedTraining | str | os.PathLike,
) -> tuple[nnx.Module, Signature]:
    """The network of a finished training, and its signature."""
    if isinstance(run, str | os.PathLike):
        run = open_run(run)
    if isinstance(run, OpenedTraining):
        run.check_finished()
    elif not isinstance(run, TrainResult):
        raise ValueError(
            f"network must be the result of a training, its directory or a network, got a "
            f"{type(run).__name__}; a search has no trained network"
        )
    return run.network, run.signature


def check_fit(signature: Signature, data: datasets.Dataset) -> None:
    """Raises ValueError unless a network can be tested on a data set.

    Args:
      signature: of the network.
      data: the data set.
    """
    if tuple(data.image_shape) != signature.image_shape:
        raise ValueError(
            f"data: the images of {data.name!r} are {size_text(data.image_shape)}, but the network "
            f"was trained on images of {size_text(signature.image_shape)}"
        )
    if data.classes != signature.classes:
        raise ValueError(
            f"data: {data.name!r} has {data.classes} classes, but the network was trained to tell "
            f"{signature.classes} apart"
        )
    names, others = signature.class_names, data.class_names
    if names and others and names != others:
        i, *_ = (i for i, pair in enumerate(zip(names, others, strict=True)) if len(set(pair)) > 1)
        raise ValueError(
            f"data: class {i} of {data.name!r} is {others[i]!r}, but the network was trained to "
            f"call it {names[i]!r}; if it is the same, give dataclasses.replace(data, "
            "class_names=None)"
        )
