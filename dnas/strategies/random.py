"""Random search."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dnas import checks
from dnas.choices import choices_of
from dnas.evaluators.base import Score, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace
from dnas.strategies.base import Key, Proposal, best_of, generator, learned, restored, saved

Draw = Callable[[np.random.Generator], Genotype]


class RandomState(NamedTuple):
    """Where a random search is.

    Attributes:
      rng: state of the generator.
      drawn: number of draws so far.
      proposed: what was drawn, in order, without repetitions.
      known: scores of what was drawn.
    """

    rng: Mapping[str, Any]
    drawn: int
    proposed: tuple[Genotype, ...]
    known: Mapping[Genotype, Score]


@dataclasses.dataclass(frozen=True)
class Random:
    """Draws architectures and takes the best: the baseline (Li and Talwalkar, 2019).

    What is drawn twice is proposed once.

    Attributes:
      draw: draws an architecture: ``space.sample`` for uniform ones, `from_mix` for those of
        mixing weights.
      draws: number of draws after which it ends; None for no end of its own.
      patience: so many draws in a row that bring nothing new mean that there is nothing new.
      without: architectures not to propose.
    """

    draw: Draw
    draws: int | None = None
    patience: int = 200
    without: tuple[Genotype, ...] = ()

    def __post_init__(self):
        checks.whole("patience", self.patience)
        if self.draws is not None:
            checks.whole("draws", self.draws)

    def init(self, key: Key) -> RandomState:
        """See `Strategy.init`."""
        return RandomState(saved(generator(key)), 0, (), {})

    def ask(self, state: RandomState, n: int) -> tuple[Proposal, RandomState]:
        """See `Strategy.ask`."""
        rng, seen = restored(state.rng), {*state.proposed, *self.without}
        new: list[Genotype] = []
        drawn, failures = state.drawn, 0
        while len(new) < n and failures < self.patience and drawn != self.draws:
            genotype = self.draw(rng)
            drawn, failures = drawn + 1, failures + 1
            if genotype not in seen:
                new.append(genotype)
                seen.add(genotype)
                failures = 0
        state = state._replace(rng=saved(rng), drawn=drawn, proposed=(*state.proposed, *new))
        return Proposal(tuple(new)), state

    def tell(self, state: RandomState, proposal: Proposal, scores: Scores) -> RandomState:
        """See `Strategy.tell`."""
        return state._replace(known=learned(state.known, proposal, scores))

    def best(self, state: RandomState) -> Genotype:
        """See `Strategy.best`."""
        return best_of(state.known)


def from_mix(space: SearchSpace, mix: Mapping[str, Any], temperature: float = 1.0) -> Draw:
    """Draws from mixing weights; the arguments are those of `sample`."""
    return lambda rng: sample(space, mix, rng, temperature)


def sample(
    space: SearchSpace, mix: Mapping[str, Any], rng: np.random.Generator, temperature: float = 1.0
) -> Genotype:
    """Draws an architecture from mixing weights.

    Weights, divided by exponential noise, go through the space's rule. A row takes each option with
    a probability proportional to its weight (the Gumbel-max trick, exponentiated); and of
    the edges that lead to a node the space keeps those drawn without replacement, in
    proportion to the weights of all options on it that can be chosen, times that of the edge where
    there are edge weights (Gumbel top-k; Kool et al., 2019).

    Args:
      space: the search space.
      mix: weights of at least zero, ``[rows, options]`` for each table.
      rng: the source of randomness.
      temperature: weights are raised to the power of its inverse.
    """
    chosen = {choice.table for choice in choices_of(space)}
    noisy = {}
    for name, table in mix.items():
        weights = np.asarray(table, np.float64)
        if name in chosen:
            weights = weights ** (1 / temperature) / rng.exponential(size=weights.shape)
        noisy[name] = weights
    return space.discretize(noisy)
