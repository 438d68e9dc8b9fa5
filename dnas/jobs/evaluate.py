"""The evaluation of a trained network on any test split."""

import os
from typing import Any

import jax
from flax import nnx

from dnas import checks, sequences
from dnas import data as datasets
from dnas.jobs.arguments import check_data
from dnas.jobs.opened import OpenedSearch, OpenedTraining
from dnas.jobs.opened import open as open_run
from dnas.tasks import Evaluation, Task
from dnas.training.tally import make_evaluate
from dnas.training.trainer import TrainResult

BATCH_SIZE = 256


def evaluate(
    network: TrainResult | OpenedTraining | nnx.Module | str | os.PathLike,
    data: datasets.Dataset,
    *,
    batch_size: int = BATCH_SIZE,
    task: Task | None = None,
) -> Evaluation:
    """Tests a trained network on the test split of a data set, that of its training or another.

    It always computes, and writes nothing. Examples are normalised like those of the training.

    Args:
      network: the result of a training, its directory, what `dnas.open` made of that, or the
        network alone, which does not know its task.
      data: the data set, for the network's task; only its test split is read.
      batch_size: examples that the network reads at a time.
      task: for a network alone, what it was trained for: ``data.task()`` of its data set.

    Returns:
      The score, and what else the task tells.

    Raises:
      ValueError: an argument does not fit, by name.
      dnas.runtime.workdir.WorkdirError: the directory is not that of a training.
      dnas.runtime.checkpoints.CheckpointError: its weights are damaged or missing.
    """
    checks.whole("batch_size", batch_size)
    check_data(data)
    if isinstance(network, nnx.Module):
        if task is None:
            raise ValueError(
                "task must be given for a network alone, data.task() of the data that it was "
                "trained on; the result of dnas.train, or its workdir, knows it"
            )
    else:
        if task is not None:
            raise ValueError("task is that of the training here: leave it out")
        network, task = _trained(network)
    task.check_fit(data.task(measured=False), data.name)
    graph, state = nnx.split(network)

    def apply(state: nnx.State, inputs: Any, carry: Any) -> tuple[Any, Any]:
        key = jax.random.key(0)  # for operations that are random
        network = nnx.merge(graph, state)
        output, carry = sequences.read(network, inputs, carry, train=False, key=key)
        return output.logits, carry

    batches = data.evaluation_batches(data.test, batch_size)
    return make_evaluate(apply, task, network)(state, batches)


def _trained(
    run: TrainResult | OpenedTraining | OpenedSearch | str | os.PathLike,
) -> tuple[nnx.Module, Task]:
    """The network of a finished training, and its task."""
    if isinstance(run, str | os.PathLike):
        return _trained(open_run(run))
    if isinstance(run, OpenedTraining):
        run.check_finished()
    elif not isinstance(run, TrainResult):
        raise ValueError(
            f"network must be the result of a training, its directory or a network, got a "
            f"{type(run).__name__}; a search has no trained network"
        )
    return run.network, run.task
