"""Architectures looked up in a tabular benchmark."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dnas.benchmarks import NASBench201
from dnas.evaluators.base import USUAL, Fidelity, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace


class Lookup(Protocol):
    """What a search looks its result up in, such as `dnas.benchmarks.NASBench201`."""

    def check(self, space: SearchSpace, data_name: str, /) -> None:
        """Raises ValueError unless it knows the architectures of a space."""

    def look_up(self, genotype: Genotype, data_name: str, /) -> dict[str, Any]:
        """What it knows of an architecture, for a report."""
        ...


@dataclasses.dataclass(frozen=True)
class Table:
    """The evaluator that answers from the result table of NAS-Bench-201.

    The budget of a fidelity counts epochs of training, 12 or 200. Values are accuracies from 0 to
    1, without an error, because the table answers the same each time. Costs are the published
    seconds of training, or zero where the table has none.

    Attributes:
      table: the table.
      dataset: one of ``table.datasets``.
      split: ``'valid'``; ``'test'`` tells what was chosen, and nothing may be chosen by it.
      epochs: of training, where a fidelity does not say.
    """

    table: NASBench201
    dataset: str = "cifar10"
    split: str = "valid"
    epochs: int = 200

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`."""
        epochs = self.epochs if fidelity.budget is None else fidelity.budget
        numbers = np.array([self.table.number(genotype) for genotype in genotypes], np.int32)
        per_cent = self.table.accuracy(numbers, self.dataset, self.split, epochs)
        value = np.asarray(per_cent, np.float64) / 100
        zeros = np.zeros(len(genotypes))
        cost = self.table.seconds(numbers, self.dataset, epochs) if self.table.timed else zeros
        return Scores(value, zeros, np.asarray(cost, np.float64), {"accuracy": value})
