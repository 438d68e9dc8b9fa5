"""Architectures validated with the weights of a trained supernet, without a training."""

import dataclasses
from collections.abc import Callable, Sequence

from dnas.choices import Tables, one_hot, stacked
from dnas.evaluators.base import USUAL, Fidelity, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace


@dataclasses.dataclass(frozen=True)
class SharedWeights:
    """The evaluator of one-shot methods: one set of weights serves all architectures.

    Every architecture of a space is a sub-network of its supernet, so each of them is validated
    by masking the others (Bender et al., 2018). It costs nothing but the validation, and knows one
    fidelity.

    Attributes:
      space: the search space.
      validate: ``mixes -> scores`` of a supernet, such as `dnas.evaluators.Supernet.validate` at
        its last state.
      others: mixing weights of the tables that no genotype tells, those of edges; ones by default.
    """

    space: SearchSpace
    validate: Callable[[Tables], Scores]
    others: Tables | None = None

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`."""
        del fidelity
        return self.validate(stacked([one_hot(self.space, g, self.others) for g in genotypes]))
