"""Answers that are kept: a search that is interrupted and repeated does not ask again."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from dnas.evaluators.base import USUAL, Evaluator, Fidelity, Scores
from dnas.genotype import Genotype
from dnas.runtime.journal import Journal


@dataclasses.dataclass(frozen=True)
class Remembered:
    """An evaluator whose answers are kept in a journal, a line for each call.

    Run the same strategy again with the same key: it asks the same questions in the same order, and
    those that were answered before are answered from the journal, bit for bit. Another question
    than before is an error.

    Attributes:
      evaluator: answers what is new.
      journal: of a working directory, `dnas.runtime.journal`.
    """

    evaluator: Evaluator
    journal: Journal

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`."""
        names = hashlib.sha256(" ".join(g.digest for g in genotypes).encode()).hexdigest()[:16]
        kind = f"{len(genotypes)} architectures {names}, {fidelity}"
        return measured(self.journal, kind, lambda: self.evaluator(genotypes, fidelity))


def measured(journal: Journal, kind: str, measure: Callable[[], Scores]) -> Scores:
    """Scores, from a journal where it knows them.

    Args:
      journal: the journal.
      kind: what is measured, so that another search is noticed.
      measure: measures what the journal does not know.
    """
    return Scores.from_arrays(journal.measured(kind, lambda: measure().arrays()))
