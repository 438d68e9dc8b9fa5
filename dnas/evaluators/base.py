"""The contract of evaluators: what an architecture is worth, and how sure that is."""

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from dnas.genotype import Genotype

_PLAIN = ("value", "error", "cost")


class Fidelity(NamedTuple):
    """How closely an evaluator looks; the defaults are an evaluator's own.

    Attributes:
      budget: of each answer, in the evaluator's unit: steps or epochs of training, for instance.
      seed: number of the repetition. Another one trains from other initial weights.
    """

    budget: int | None = None
    seed: int = 0


USUAL = Fidelity()


class Score(NamedTuple):
    """What one architecture is worth.

    Attributes:
      value: the measure that counts; higher is better.
      error: its standard error; zero where asking again brings the same.
      cost: what the answer took, in the evaluator's unit.
      metrics: all measures by name. The one called ``'loss'``, if any, tells equal values apart.
    """

    value: float
    error: float
    cost: float
    metrics: Mapping[str, float]

    @property
    def order(self) -> tuple[float, float]:
        """What sorts architectures: the value, and of equal values the smaller loss."""
        return self.value, -self.metrics.get("loss", 0.0)

    @property
    def facts(self) -> dict[str, float]:
        """All measures, for a record; the value alone where there are none."""
        return dict(self.metrics) or {"value": self.value}


class Scores(NamedTuple):
    """What several architectures are worth: arrays ``[n]`` of the attributes of `Score`."""

    value: np.ndarray
    error: np.ndarray
    cost: np.ndarray
    metrics: Mapping[str, np.ndarray] = types.MappingProxyType({})

    @classmethod
    def of(cls, scores: Sequence[Score]) -> "Scores":
        """The scores of single architectures, at least one, as arrays."""
        values, errors, costs, metrics = zip(*scores, strict=True)
        names = metrics[0]
        value, error, cost = (np.array(x, np.float64) for x in (values, errors, costs))
        return cls(
            value,
            error,
            cost,
            {name: np.array([found[name] for found in metrics], np.float64) for name in names},
        )

    def each(self) -> Iterator[Score]:
        """Yields the score of every architecture."""
        for i in range(len(self.value)):
            metrics = {name: float(x[i]) for name, x in self.metrics.items()}
            yield Score(float(self.value[i]), float(self.error[i]), float(self.cost[i]), metrics)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as one dictionary of arrays ``[n]``, which `from_arrays` reads."""
        metrics = {f"metrics/{name}": x for name, x in self.metrics.items()}
        return {name: getattr(self, name) for name in _PLAIN} | metrics

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Scores":
        """The scores that `arrays` wrote."""
        metrics = {n.removeprefix("metrics/"): x for n, x in arrays.items() if n not in _PLAIN}
        return cls(arrays["value"], arrays["error"], arrays["cost"], metrics)


class Evaluator(Protocol):
    """Says what architectures are worth.

    An answer depends on the architecture and the fidelity alone, not on what was asked before or
    together with it: a strategy that is interrupted and asks again finds the same.
    """

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL, /) -> Scores:
        """The scores of some architectures.

        Args:
          genotypes: at least one.
          fidelity: how closely to look. An evaluator that knows one fidelity answers by that.
        """
        ...
