"""Hill climbing."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from dnas import checks
from dnas.choices import Choice, choices_of, one_hot, replaced
from dnas.evaluators.base import Score, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace
from dnas.strategies.base import Key, Proposal, generator, learned, restored, saved


class Step(NamedTuple):
    """A step up.

    Attributes:
      choice: the row that changed.
      before: the score of the architecture that was left.
      genotype: the better one.
    """

    choice: Choice
    before: Score
    genotype: Genotype


class LocalSearchState(NamedTuple):
    """Where a local search is.

    Attributes:
      rng: state of the generator.
      genotype: the present architecture.
      began: that at the beginning of the sweep.
      sweep: number of the sweep, from 1.
      order: numbers of the rows that are left in the sweep.
      known: scores of all that were asked for.
      steps: the steps up, in order.
    """

    rng: Mapping[str, Any]
    genotype: Genotype
    began: Genotype
    sweep: int
    order: tuple[int, ...]
    known: Mapping[Genotype, Score]
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class LocalSearch:
    """Hill climbing: improves an architecture row by row (White et al., 2021).

    A sweep goes through all rows in random order. Of the present architecture and those that differ
    in that row (of edges that are left out, those where it takes the place of another) the best
    goes on. Ends with a sweep that changed nothing.

    Attributes:
      space: the search space.
      start: the first architecture; drawn uniformly by default.
      sweeps: through all rows, at most.
    """

    space: SearchSpace
    start: Genotype | None = None
    sweeps: int = 3

    def __post_init__(self):
        checks.whole("sweeps", self.sweeps)

    def init(self, key: Key) -> LocalSearchState:
        """See `Strategy.init`."""
        rng = generator(key)
        start = self.space.sample(rng) if self.start is None else self.start
        return self._swept(LocalSearchState(saved(rng), start, start, 0, (), {}, ()))

    def ask(self, state: LocalSearchState, n: int) -> tuple[Proposal, LocalSearchState]:
        """See `Strategy.ask`."""
        return Proposal(self._unknown(state)[:n]), state

    def tell(self, state: LocalSearchState, proposal: Proposal, scores: Scores) -> LocalSearchState:
        """See `Strategy.tell`."""
        state = state._replace(known=learned(state.known, proposal, scores))
        while state.order and not self._unknown(state):
            state = self._moved(state)
        return state

    def best(self, state: LocalSearchState) -> Genotype:
        """See `Strategy.best`."""
        if state.genotype not in state.known:
            raise ValueError("no architecture has a score yet: ask, evaluate and tell first")
        return state.genotype

    def _rivals(self, state: LocalSearchState) -> tuple[Choice, list[Genotype]]:
        """The row that is next, and the architectures of which the best goes on."""
        choice = choices_of(self.space)[state.order[0]]
        return choice, [state.genotype, *neighbors(self.space, state.genotype, choice)]

    def _unknown(self, state: LocalSearchState) -> tuple[Genotype, ...]:
        """Those of them that have no score; none when the search is over."""
        rivals = self._rivals(state)[1] if state.order else [state.genotype]
        return tuple(g for g in dict.fromkeys(rivals) if g not in state.known)

    def _moved(self, state: LocalSearchState) -> LocalSearchState:
        """After the next row, all of whose architectures are known."""
        choice, rivals = self._rivals(state)
        best = max(rivals, key=lambda genotype: state.known[genotype].order)
        if best != state.genotype:
            step = Step(choice, state.known[state.genotype], best)
            state = state._replace(genotype=best, steps=(*state.steps, step))
        state = state._replace(order=state.order[1:])
        over = state.genotype == state.began or state.sweep == self.sweeps
        return state if state.order or over else self._swept(state)

    def _swept(self, state: LocalSearchState) -> LocalSearchState:
        """At the beginning of another sweep."""
        rng = restored(state.rng)
        order = tuple(rng.permutation(len(choices_of(self.space))).tolist())
        sweep = state.sweep + 1
        return state._replace(rng=saved(rng), began=state.genotype, sweep=sweep, order=order)


@functools.lru_cache(maxsize=4)  # a proposal and its scores need the same ones
def neighbors(space: SearchSpace, genotype: Genotype, choice: Choice) -> tuple[Genotype, ...]:
    """The architectures that take another option in one row.

    Args:
      space: the search space.
      genotype: an architecture.
      choice: the row. Where the architecture leaves it out, it takes the place of another.
    """
    weights = one_hot(space, genotype)
    rows = [c for c in choices_of(space) if c.part == choice.part and c != choice]
    found = {}
    for option in choice.allowed:
        raised = replaced(weights, choice, option, 2.0)
        for weakened in [None, *(row for row in rows if row.row in genotype[choice.part])]:
            tables = raised
            if weakened is not None:
                scaled = tables[weakened.table].copy()
                scaled[weakened.index] /= 2
                tables = {**tables, weakened.table: scaled}
            found[space.discretize(tables)] = None
    found.pop(genotype, None)
    return tuple(found)
