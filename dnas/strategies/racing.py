"""A local search that races moves over short and longer trainings."""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas import checks
from dnas.choices import Tables, choices_of, ones
from dnas.evaluators.base import Fidelity, Score, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace
from dnas.strategies.base import Key, Proposal, generator, learned
from dnas.strategies.moves import Move, Option, Without

Known = Mapping[Genotype, Score]


class RacingState(NamedTuple):
    """Where a race is.

    Attributes:
      start: the first architecture.
      known: all scores so far, by fidelity.
    """

    start: Genotype
    known: Mapping[Fidelity, Known]


@dataclasses.dataclass(frozen=True, eq=False)
class Racing:
    """Improves an architecture by moves that are significant in several repetitions.

    Moves change one row, or do without an operation in all rows: what is a little worse in each of
    them is significant only in all together. Short trainings propose moves and longer ones decide,
    for short ones favour what learns fast, and vary by more than their examples explain.

    A round has these steps:

    1. Short trainings measure what each move gains over the present architecture.
    2. The move that gains most is proposed: with its equals if its gain is significant, else with
       those that follow. What was measured where another architecture was present is measured
       again first, as long as short trainings are left (greedy search with lazily evaluated gains;
       Minoux, 1978).
    3. Longer trainings measure the proposed moves. Significantly better ones are sorted: those
       that are not significantly worse than the best first, the least change before others.
    4. The first that is also significantly better on average over other seeds is taken.
    5. If a significant proposal led nowhere, its moves are not proposed again. If one that was not
       significant led nowhere, the search is over.

    In the end each move is undone without which the architecture is not significantly worse.

    A gain is significant if it exceeds so many standard errors of the difference of two scores
    (races: Maron and Moore, 1994). Those errors are of the drawing of examples alone: trained
    anew, two architectures may differ by three or four times as much by chance. So longer
    trainings ask for more of them (`decisive`), and for other seeds.

    Attributes:
      space: the search space.
      budget: of a short training, in the unit of the evaluator.
      start: the first architecture; drawn uniformly by default.
      mix: mixing weights: the prior by which moves are tried. Ones by default.
      sigmas: standard errors that make a gain in short trainings significant.
      count: short trainings at most, that of the first architecture included. Left out are moves
        to options with the least weight, relative to their row's largest; in spaces with more
        moves than that, none is measured again.
      rivals: moves that are proposed together, at most. The more, the more likely one of them is
        confirmed by chance.
      longer: how many times the short budget longer trainings have. Their number is not limited.
      decisive: standard errors that make a gain in longer trainings significant.
      confirmations: number of other seeds, which are the same for all moves; asked one after the
        other, as long as the average is significant. 0 does without.
    """

    space: SearchSpace
    budget: int
    start: Genotype | None = None
    mix: Tables | None = None
    sigmas: float = 3.0
    count: int = 36
    rivals: int = 4
    longer: int = 4
    decisive: float = 4.0
    confirmations: int = 1

    def __post_init__(self):
        checks.whole("budget", self.budget)
        check(
            sigmas=self.sigmas,
            count=self.count,
            rivals=self.rivals,
            longer=self.longer,
            decisive=self.decisive,
            confirmations=self.confirmations,
        )

    def init(self, key: Key) -> RacingState:
        """See `Strategy.init`."""
        start = self.space.sample(generator(key)) if self.start is None else self.start
        return RacingState(start, {})

    def ask(self, state: RacingState, n: int) -> tuple[Proposal, RacingState]:
        """See `Strategy.ask`: what the race needs to know where it cannot go on."""
        wanted = self._raced(state).wanted
        return wanted._replace(genotypes=wanted.genotypes[:n]), state

    def tell(self, state: RacingState, proposal: Proposal, scores: Scores) -> RacingState:
        """See `Strategy.tell`."""
        known = learned(state.known.get(proposal.fidelity, {}), proposal, scores)
        return state._replace(known={**state.known, proposal.fidelity: known})

    def best(self, state: RacingState) -> Genotype:
        """See `Strategy.best`: the present architecture."""
        if not state.known:
            raise ValueError("no architecture has a score yet: ask, evaluate and tell first")
        return self._raced(state).walk.genotype

    def record(self, state: RacingState) -> list[dict[str, Any]]:
        """What was proposed, taken and undone, and the numbers of trainings, as plain data."""
        raced = self._raced(state)
        trainings = {"trainings": len(raced.short.scores), "longer": len(raced.long.scores)}
        trainings["confirmations"] = sum(len(judge.scores) for judge in raced.others)
        return [*raced.walk.record, trainings]

    def _raced(self, state: RacingState) -> "_Raced":
        """The race from its start, as far as the known scores lead.

        The race is a function of scores: to go on is to run it again with more of them.
        """

        def judge(budget: int, sigmas: float, seed: int = 0) -> _Comparer:
            fidelity = Fidelity(budget, seed)
            return _Comparer(state.known.get(fidelity, {}), fidelity, sigmas)

        budget = self.longer * self.budget
        short, long = judge(self.budget, self.sigmas), judge(budget, self.decisive)
        others = [judge(budget, self.decisive, 1 + i) for i in range(self.confirmations)]
        walk = _Walk(self, state.start, [long, *others])
        wanted = Proposal(())
        try:
            _climb(walk, short, self.count, self.rivals)
            walk.undo()
        except _Wanted as error:
            wanted = error.proposal
        return _Raced(walk, short, long, others, wanted)

    @functools.cached_property
    def prior(self) -> Tables:
        """The mixing weights by which moves are tried."""
        return ones(self.space) if self.mix is None else dict(self.mix)

    @functools.cached_property
    def after(self):
        """``(move, genotype) -> genotype``: the architecture after a move."""
        return functools.cache(lambda move, g: move.apply(self.space, self.prior, g))


def check(**numbers: Any) -> None:
    """Raises ValueError unless the numbers of `Racing` are what it takes."""
    checks.positive("sigmas", numbers["sigmas"])
    checks.whole("count", numbers["count"], least=2)
    checks.whole("rivals", numbers["rivals"])
    checks.whole("longer", numbers["longer"])
    checks.positive("decisive", numbers["decisive"])
    checks.whole("confirmations", numbers["confirmations"], least=0)


class _Wanted(Exception):
    """The race cannot go on without some scores."""

    def __init__(self, proposal: Proposal):
        super().__init__(proposal)
        self.proposal = proposal


class _Comparer:
    """Compares architectures at one fidelity."""

    def __init__(self, known: Known, fidelity: Fidelity, sigmas: float):
        self.fidelity, self.sigmas, self._known = fidelity, sigmas, known
        self.scores: dict[Genotype, Score] = {}  # of what this race has asked for so far

    def train(self, genotypes: Sequence[Genotype]) -> None:
        """Looks up those that are new; raises `_Wanted` where one is not known."""
        new = [g for g in dict.fromkeys(genotypes) if g not in self.scores]
        if unknown := tuple(g for g in new if g not in self._known):
            raise _Wanted(Proposal(unknown, self.fidelity))
        self.scores |= {genotype: self._known[genotype] for genotype in new}

    def gain(self, before: Genotype, after: Genotype) -> float:
        """Gained value in standard errors of the difference."""
        old, new = self.scores[before], self.scores[after]
        variance = old.error**2 + new.error**2
        return (new.value - old.value) / math.sqrt(max(variance, 1e-12))

    def facts(self, before: Genotype, after: Genotype) -> dict[str, Any]:
        """The numbers, for the record."""
        gain = {"sigmas": self.gain(before, after), "instead_of": self.scores[before].facts}
        return gain | self.scores[after].facts

    def better(self, one: Genotype, other: Genotype) -> bool:
        """Whether one is significantly better than another."""
        self.train([other, one])
        return self.gain(other, one) > self.sigmas


class _Raced(NamedTuple):
    """A race as far as the known scores led; `wanted` is what it asks for."""

    walk: "_Walk"
    short: _Comparer
    long: _Comparer
    others: Sequence[_Comparer]
    wanted: Proposal


class _Walk:
    """An architecture, and the moves that led to it as judges decided."""

    def __init__(self, race: Racing, first: Genotype, judges: Sequence[_Comparer]):
        self.race, self.judges = race, judges
        self.first = self.genotype = first
        self.moves: list[Move] = []
        self.record: list[dict[str, Any]] = []

    def after(self, move: Move) -> Genotype:
        """The architecture that a move leads to."""
        return self.race.after(move, self.genotype)

    def take(self, moves: Sequence[Move]) -> bool:
        """Takes the best of some moves that judges agree to; tells whether there is one."""
        before, found = self.genotype, [self.after(move) for move in moves]
        order = self._order(found)
        taken = next((i for i in order if self._agreed(before, found[i])), None)
        best = order[0] if taken is None else taken
        tried = [m.place | self._scores(g) for m, g in zip(moves, found, strict=True)]
        facts = {"taken": taken is not None, "proposed": tried}
        self.record.append(moves[best].place | self._facts(found[best]) | facts)
        if taken is not None:
            self.genotype = found[taken]
            self.moves.append(moves[taken])
        return taken is not None

    def undo(self) -> None:
        """Undoes moves that were needed only until others were taken."""
        for move in self.moves[:-1]:
            rest = [other for other in self.moves if other != move]
            found = functools.reduce(lambda g, other: self.race.after(other, g), rest, self.first)
            gain = statistics.fmean(self._gains(found, self.genotype))
            if found != self.genotype and gain <= self.judges[0].sigmas:
                self.record.append({"undone": move.place} | self._facts(found))
                self.genotype, self.moves = found, rest

    def _gains(self, before: Genotype, after: Genotype) -> Iterator[float]:
        """What judge after judge finds; each asks for what it has not seen."""
        for judge in self.judges:
            judge.train([before, after])
            yield judge.gain(before, after)

    def _agreed(self, before: Genotype, after: Genotype) -> bool:
        """Whether it is significantly better for the first judge, and on average with each more."""
        totals = itertools.accumulate(self._gains(before, after))
        return all(total > self.judges[0].sigmas * n for n, total in enumerate(totals, 1))

    def _order(self, found: Sequence[Genotype]) -> list[int]:
        """Numbers of architectures: better ones first, of equals that which changes least."""
        judge = self.judges[0]
        judge.train([self.genotype, *found])

        def merit(genotype: Genotype) -> tuple[bool, float]:
            return judge.better(genotype, self.genotype), judge.scores[genotype].order[1]

        best = max(found, key=merit)

        def rank(i: int) -> tuple[bool, bool, int, float]:
            better, negative_loss = merit(found[i])
            equal = not judge.better(best, found[i])
            return better, equal, -_changes(self.genotype, found[i]), negative_loss

        return sorted(range(len(found)), key=rank, reverse=True)

    def _scores(self, genotype: Genotype) -> dict[str, Any]:
        """For the record: of an architecture, by all judges that trained it."""
        every = [judge.scores[genotype].facts for judge in self.judges if genotype in judge.scores]
        first, *others = every
        return first | {"confirmations": others}

    def _facts(self, after: Genotype) -> dict[str, Any]:
        """For the record: how it compares to the present architecture, by all who trained it."""
        known = [judge for judge in self.judges if after in judge.scores]
        first, *others = [judge.facts(self.genotype, after) for judge in known]
        return first | {"confirmations": others}


def _changes(before: Genotype, after: Genotype) -> int:
    """The number of rows in which two architectures differ."""
    rows = {(part, row) for g in (before, after) for part in g.parts() for row in g[part]}
    return sum(before[part].get(row) != after[part].get(row) for part, row in rows)


def _moves(race: Racing, genotype: Genotype, count: int) -> list[Move]:
    """Moves that change an architecture, of one row the least unlikely; then those of many."""

    def likelihood(move: Option) -> float:
        weights = np.asarray(race.prior[move.choice.table][move.choice.index], np.float64)
        return float(weights[move.option] / max(weights.max(), 1e-30))

    def changes(move: Move) -> bool:
        return race.after(move, genotype) != genotype

    every = [Option(choice, o) for choice in choices_of(race.space) for o in choice.allowed]
    names = dict.fromkeys(move.place["option"] for move in every)
    without = list(filter(changes, map(Without, names)))[:count]
    single = sorted(filter(changes, every), key=likelihood, reverse=True)
    return single[: count - len(without)] + without


def _climb(walk: _Walk, short: _Comparer, count: int, rivals: int) -> None:
    """Proposes what gains most in short trainings, until what is not significant is rejected."""
    moves = _moves(walk.race, walk.genotype, count - 1)
    short.train([walk.genotype, *map(walk.after, moves)])
    gains = {move: short.gain(walk.genotype, walk.after(move)) for move in moves}
    fresh = set(moves)  # whose gains are those over the present architecture
    while likely := _likeliest(walk, gains, rivals):
        stale = [move for move in likely if move not in fresh]
        free = [m for m in stale if {walk.genotype, walk.after(m)} <= short.scores.keys()]
        if again := free or stale[: count - len(short.scores)]:
            short.train(list(map(walk.after, again)))
            gains |= {move: short.gain(walk.genotype, walk.after(move)) for move in again}
            fresh.update(again)
            continue
        first, *others = likely
        sure = first in fresh and gains[first] > short.sigmas
        if sure:  # then only with its equals
            best = walk.after(first)
            equals = [m for m in others if m in fresh and not short.better(best, walk.after(m))]
            likely = [first, *equals]
        if walk.take(likely):
            fresh = set()
        elif sure:
            rejected = set(map(walk.after, likely))
            gains = {move: gain for move, gain in gains.items() if walk.after(move) not in rejected}
        else:
            break


def _likeliest(walk: _Walk, gains: Mapping[Move, float], count: int) -> list[Move]:
    """The moves that gain most, one for each new architecture; the first ones where they tie."""
    found: dict[Genotype, Move] = {}
    for move in sorted(gains, key=lambda move: gains[move], reverse=True):
        found.setdefault(walk.after(move), move)
    found.pop(walk.genotype, None)
    return list(found.values())[:count]
