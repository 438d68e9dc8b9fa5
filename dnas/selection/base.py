"""What all selections share: a trained search, and what they choose."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from dnas.choices import Tables
from dnas.evaluators.base import Evaluator, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace


class Supernet(Protocol):
    """A trained supernet, such as `dnas.evaluators.Supernet`.

    Attributes:
      state: of the search. Selections only hand it on.
      steps_per_epoch: of `finetune` and `resume`.
    """

    state: Any
    steps_per_epoch: int

    def validate(self, state: Any, mixes: Tables) -> Scores:
        """Scores of mixes ``[n, rows, options]``, on examples of the architecture's half."""
        ...

    def finetune(self, state: Any, mix: Tables, steps: int) -> Any:
        """Trains the weights at fixed mixing weights, on their own half; returns the state."""
        ...

    def resume(self, state: Any, masks: Tables, steps: int) -> tuple[Any, Tables]:
        """Goes on with the search where rows with a single 1 in their mask are decided.

        Returns the state and the mixing weights.
        """
        ...


class Trained(NamedTuple):
    """A search that has come to its end, as selections see it.

    Attributes:
      space: the search space.
      mix: the mixing weights that the search ended with, without noise.
      key: PRNG key of the selection.
      supernet: the trained supernet.
      shared_weights: evaluates architectures with its weights.
      short_training: evaluates architectures by training them for some steps, from scratch.
      parameters: ``() -> {table: [rows, options]}``, as `dnas.costs.parameters` has it; None in
        spaces that `dnas.costs` does not know.
    """

    space: SearchSpace
    mix: Tables
    key: jax.Array
    supernet: Supernet
    shared_weights: Evaluator
    short_training: Evaluator
    parameters: Callable[[], Tables] | None = None

    def steps(self, epochs: float) -> int:
        """So many epochs in steps."""
        return round(epochs * self.supernet.steps_per_epoch)


class Selected(NamedTuple):
    """What a selection chose.

    Attributes:
      genotype: the architecture.
      record: the decisions on the way to it, as plain data for the report.
    """

    genotype: Genotype
    record: list[dict[str, Any]]


Selection = Callable[[Trained], Selected]
