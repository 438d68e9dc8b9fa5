"""What a test split says of a trained network."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from dnas import arithmetic, sequences
from dnas.runtime import programs
from dnas.tasks import Batch, Evaluation, Task, added

# (state, prepared inputs, carry) -> (outputs, carry)
Apply = Callable[[Any, Any, sequences.Carry], tuple[Any, sequences.Carry]]


def make_evaluate(
    apply: Apply, task: Task, owner: Any = None
) -> Callable[[Any, Iterable[tuple[Batch, jax.Array]]], Evaluation]:
    """Makes the function that tests a network; it compiles once.

    Args:
      apply: the network in float32 with running averages, as a function of its state.
      task: what it is for.
      owner: the network's space, or the network, which knows what is carried from batch to batch;
        by default nothing is.

    Returns:
      ``(state, batches) -> evaluation``, with batches as `dnas.data.evaluation_batches` yields.
    """

    @programs.once
    @jax.jit
    @arithmetic.within("float32")
    def tally(state, carry, batch, weights):
        inputs, targets = task.prepare(None, batch, False)
        begun = sequences.begun(carry, sequences.initial_carry(owner, len(weights)), batch)
        outputs, carry = apply(state, inputs, begun)
        return task.tally(outputs, targets, weights), carry

    def evaluate(state, batches):
        sums, carry = [], None
        for batch, weights in batches:
            if carry is None:
                carry = sequences.initial_carry(owner, len(weights))
            found, carry = tally(state, carry, batch, weights)
            sums.append(found)
        return task.evaluation(added(jax.device_get(sums)))

    return evaluate
