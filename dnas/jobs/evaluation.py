"""What a test split says of a trained network."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from dnas.runtime import programs
from dnas.tasks import Batch, Evaluation, Task

# (state, prepared inputs) -> outputs
Apply = Callable[[Any, Any], Any]


def make_evaluate(
    apply: Apply, task: Task
) -> Callable[[Any, Iterable[tuple[Batch, jax.Array]]], Evaluation]:
    """Makes the function that tests a network; it compiles once.

    Args:
      apply: the network in float32 with running averages, as a function of its state.
      task: what it is for.

    Returns:
      ``(state, batches) -> evaluation``, with batches as `dnas.data.evaluation_batches` yields.
    """

    @programs.once
    @jax.jit
    def tally(state, batch, weights):
        inputs, targets = task.prepare(None, batch, False)
        return task.tally(apply(state, inputs), targets, weights)

    def evaluate(state, batches):
        sums = jax.device_get([tally(state, *batch) for batch in batches])
        added = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), 0), *sums)
        return task.evaluation(added)

    return evaluate
