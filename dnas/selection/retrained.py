"""Selections among architectures that are trained by themselves, from scratch and shortly."""

import functools
import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas import checks
from dnas.genotype import Genotype
from dnas.selection.mixing import strongest
from dnas.selection.shared import (
    Choice,
    Score,
    Selected,
    Selection,
    Shared,
    choices_of,
    one_hot,
    replaced,
    scores_of,
)


def short_trainings(
    start: Selection | None = None,
    epochs: float = 1.0,
    sigmas: float = 3.0,
    count: int = 36,
    rivals: int = 4,
    longer: int = 4,
    decisive: float = 4.0,
    confirmations: int = 1,
) -> Selection:
    """Corrects an architecture where trainings from scratch contradict it.

    A supernet cannot tell what a deep network needs to be trained at all: some of its edges carry a
    skip connection whatever one of them chooses. So moves are tried, each architecture being
    trained by itself and validated: those that change one row, and those that do without an
    operation, because what is a little worse in many rows is significant only in all together.
    Short trainings propose and longer ones decide, for short ones favour what learns fast, and vary
    by more than their images explain. A move that gains significantly is proposed, with those that
    gain as much. Candidates are those of them that are significantly better in longer trainings.
    Those that are not significantly worse than the best go first, the least change before others;
    the first is taken that is significantly better on average over other initial weights, too.
    (Than an architecture that was unlucky with the first ones, many are better.) If there is none,
    the moves are not proposed again. Where it led, other moves are tried again, those first that
    gained most before, as long as short trainings are left (greedy search with lazily evaluated
    gains; Minoux, 1978). When none is significant any more, those that gain most, or lose least,
    are proposed, until longer trainings take none of them. In the end each move is undone without
    which the architecture is not significantly worse on average, now that others were taken. What
    is not significant stays as the search has it. That short trainings rank searches is from DARTS
    (Liu et al., 2019), for whole searches.

    Args:
      start: selects the first architecture; `strongest` by default.
      epochs: of each short training; may be a fraction. Their learning rate is four times that of
        the search (`dnas.presets.Preset.retraining`).
      sigmas: a gain in short trainings is significant if it is more than so many standard errors
        of the difference of two accuracies.
      count: short trainings at most, that of the first architecture included. Left out are moves
        to options with the least weight, relative to their row's largest; and in spaces with more
        moves than that, none is trained again.
      rivals: so many moves at most are proposed together. Of those that change as much the best is
        that of the least loss, which tells equals apart better than accuracy.
      longer: how many times longer those trainings are. Their number is not limited: one for the
        first architecture, one for each that is proposed, and one for each move but the last to be
        taken; confirmations come on top.
      decisive: standard errors, as `sigmas`, in longer trainings, by which moves are undone, too.
        More of them, because these errors are those of drawing the images alone: trained anew, two
        architectures may differ by three or four times as much by chance.
      confirmations: so many other initial weights, with the same images. With each of them, one
        after the other, a move must gain `decisive` standard errors on average over all that were
        asked; 0 does without. They are the same for all moves, so that the more `rivals` there are,
        the more likely one of them is confirmed by chance.
    """
    checks.positive("epochs", epochs, most=checks.MOST_WHOLE)
    checks.positive("sigmas", sigmas)
    checks.whole("count", count, least=2)
    checks.whole("rivals", rivals)
    checks.whole("longer", longer)
    checks.positive("decisive", decisive)
    checks.whole("confirmations", confirmations, least=0)
    start = start or strongest()

    def select(shared: Shared) -> Selected:
        first, record = start(shared)
        steps = max(1, shared.steps(epochs))
        short, long = _Judge(shared, steps, sigmas), _Judge(shared, longer * steps, decisive)
        numbers = range(1, confirmations + 1)
        others = [_Judge(shared, longer * steps, decisive, weights=number) for number in numbers]
        walk = _Walk(shared, first, [long, *others])
        _climb(walk, short, count, rivals)
        walk.undo()
        trainings = {"trainings": len(short.scores), "longer": len(long.scores)}
        trainings["confirmations"] = sum(len(judge.scores) for judge in others)
        return Selected(walk.genotype, [*record, *walk.record, trainings])

    return select


class _Move(NamedTuple):
    """Another option for one row."""

    choice: Choice
    option: int

    @property
    def place(self) -> dict[str, str]:
        """What it decides, for the record."""
        return self.choice.place | {"option": self.choice.options[self.option]}

    def apply(self, shared: Shared, genotype: Genotype) -> Genotype:
        """The architecture after it. A row that was left out takes the place of the weakest."""
        tables = one_hot(shared.space, genotype, shared.mix)
        for name in {choice.table for choice in choices_of(shared.space)}:
            tables[name] = tables[name] * (1 + shared.mix[name])
        peak = 2 * max(table.max() for table in tables.values())
        cleared = replaced(tables, self.choice, slice(None), 0.0)
        return shared.space.discretize(replaced(cleared, self.choice, self.option, peak))


class _Without(NamedTuple):
    """No more of an operation: all rows that have it take their strongest other option."""

    option: str

    @property
    def place(self) -> dict[str, str]:
        """What it decides, for the record."""
        return {"without": self.option}

    def apply(self, shared: Shared, genotype: Genotype) -> Genotype:
        """The architecture after it. Rows that can be nothing else keep the operation."""
        tables = one_hot(shared.space, genotype, shared.mix)
        for choice in choices_of(shared.space):
            others = [o for o in choice.allowed if choice.options[o] != self.option]
            if others and genotype[choice.part].get(choice.row) == self.option:
                best = max(others, key=shared.mix[choice.table][choice.index].__getitem__)
                cleared = replaced(tables, choice, slice(None), 0.0)
                tables = replaced(cleared, choice, best, 1.0)
        return shared.space.discretize(tables)


Move = _Move | _Without


def _moves(shared: Shared, genotype: Genotype, count: int) -> list[Move]:
    """Moves that change an architecture, of one row the least unlikely; then those of many."""

    def likelihood(move: _Move) -> float:
        weights = np.asarray(shared.mix[move.choice.table][move.choice.index], np.float64)
        return float(weights[move.option] / max(weights.max(), 1e-30))

    def changes(move: Move) -> bool:
        return move.apply(shared, genotype) != genotype

    every = [_Move(choice, o) for choice in choices_of(shared.space) for o in choice.allowed]
    names = dict.fromkeys(move.place["option"] for move in every)
    without = list(filter(changes, map(_Without, names)))[:count]
    single = sorted(filter(changes, every), key=likelihood, reverse=True)
    return single[: count - len(without)] + without


class _Judge:
    """Trains architectures, each of them once, from the same initial weights."""

    def __init__(self, shared: Shared, steps: int, sigmas: float, weights: int = 0):
        self.shared, self.steps, self.sigmas = shared, steps, sigmas
        self._train = functools.partial(shared.train, weights=weights)
        self.scores: dict[Genotype, Score] = {}

    def train(self, genotypes: Sequence[Genotype]) -> None:
        """Trains and validates those that are new."""
        new = [g for g in dict.fromkeys(genotypes) if g not in self.scores]
        mixes = [one_hot(self.shared.space, genotype, self.shared.mix) for genotype in new]
        scores = scores_of(self._train, self.steps, mixes)
        self.scores |= dict(zip(new, scores, strict=True))

    def gain(self, before: Genotype, after: Genotype) -> float:
        """Gained accuracy in standard errors of the difference."""
        old, new = (self.scores[genotype].accuracy for genotype in (before, after))
        variance = (old * (1 - old) + new * (1 - new)) / self.shared.images
        return (new - old) / math.sqrt(max(variance, 1e-12))

    def facts(self, before: Genotype, after: Genotype) -> dict[str, Any]:
        """The numbers, for the record."""
        gain = {"sigmas": self.gain(before, after), "instead_of": self.scores[before].facts}
        return gain | self.scores[after].facts

    def better(self, one: Genotype, other: Genotype) -> bool:
        """Whether one is significantly better than another."""
        self.train([other, one])
        return self.gain(other, one) > self.sigmas


class _Walk:
    """An architecture, and the moves that led to it as judges decided."""

    def __init__(self, shared: Shared, first: Genotype, judges: Sequence[_Judge]):
        self.shared, self.judges = shared, judges
        self.first = self.genotype = first
        self.moves: list[Move] = []
        self.record: list[dict[str, Any]] = []

    def after(self, move: Move) -> Genotype:
        """The architecture that a move leads to."""
        return move.apply(self.shared, self.genotype)

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
            found = functools.reduce(lambda g, other: other.apply(self.shared, g), rest, self.first)
            gain = statistics.fmean(self._gains(found, self.genotype))
            if found != self.genotype and gain <= self.judges[0].sigmas:
                self.record.append({"undone": move.place} | self._facts(found))
                self.genotype, self.moves = found, rest

    def _gains(self, before: Genotype, after: Genotype) -> Iterator[float]:
        """What judge after judge finds; each trains what it has not seen."""
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
            return judge.better(genotype, self.genotype), judge.scores[genotype].negative_loss

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


def _climb(walk: _Walk, short: _Judge, count: int, rivals: int) -> None:
    """Proposes what gains most in short trainings, until what is not significant is rejected."""
    moves = _moves(walk.shared, walk.genotype, count - 1)
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
    for move in sorted(gains, key=gains.get, reverse=True):
        found.setdefault(walk.after(move), move)
    found.pop(walk.genotype, None)
    return list(found.values())[:count]
