"""Selections among architectures that are trained by themselves, from scratch and shortly."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas import checks
from dnas.genotype import Genotype
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
from dnas.selection.whole import strongest


def short_trainings(
    start: Selection | None = None,
    epochs: float = 1.0,
    sigmas: float = 3.0,
    count: int = 36,
    rivals: int = 6,
    longer: int = 4,
) -> Selection:
    """Corrects an architecture where short trainings from scratch contradict it.

    A supernet cannot tell what a deep network needs to be trained at all: some of its edges carry a
    skip connection whatever one of them chooses. So moves are tried, each architecture being
    trained by itself and validated: those that change one row, and those that do without an
    operation, because what is a little worse in many rows is significant only in all together. The
    move that gains most is taken if the gain is significant, after longer trainings where others
    gain as much; and moves that were significant, too, are tried again where it led, until none is
    left (greedy search with lazily evaluated gains; Minoux, 1978). Then moves are undone without
    which the architecture is not significantly worse, now that others were taken. Short trainings
    favour what learns fast, so in the end the moves that gained most in them, however little, are
    compared with the architecture in longer ones. What is not significant stays as the search has
    it. That short trainings rank searches is from DARTS (Liu et al., 2019), for whole searches.

    Args:
      start: selects the first architecture; `strongest` by default.
      epochs: of each training; may be a fraction.
      sigmas: a gain is significant if it is more than so many standard errors of the difference
        of two accuracies.
      count: such trainings at most, that of the first architecture included, and but for those
        that may undo a move. Left out are moves to options with the least weight, relative to
        their row's largest.
      rivals: of the moves that gain most so many at most are trained longer, those that are not
        significantly worse than the best; of which the one of the least loss is taken. In the end
        so many are compared with the architecture.
      longer: how many times longer.
    """
    checks.positive("epochs", epochs)
    checks.positive("sigmas", sigmas)
    checks.whole("count", count, least=2)
    checks.whole("rivals", rivals)
    checks.whole("longer", longer)
    start = start or strongest()

    def select(shared: Shared) -> Selected:
        first, record = start(shared)
        genotype, taken = first, []
        short = max(1, shared.steps(epochs))
        judge, patient = _Judge(shared, short), _Judge(shared, longer * short)
        moves = _moves(shared, genotype, count - 1)
        judge.train([genotype, *(move.apply(shared, genotype) for move in moves)])
        gains = {move: judge.gain(genotype, move.apply(shared, genotype)) for move in moves}
        fresh = set(moves)  # those whose gain is that over the present architecture
        while gains and gains[move := max(gains, key=gains.get)] > sigmas:
            found = move.apply(shared, genotype)
            if move in fresh:
                # In the order of `gains`, not of a set's hashes, so that ties end the same way.
                order = sorted(filter(fresh.__contains__, gains), key=gains.get, reverse=True)
                close = {m.apply(shared, genotype): m for m in order[:rivals]}
                close = {g: m for g, m in close.items() if judge.gain(g, found) <= sigmas}
                found, facts = patient.contest(close) if len(close) > 1 else (found, {})
                move = close[found]
                record = [*record, move.place | judge.facts(genotype, found) | facts]
                genotype, fresh = found, set()
                taken.append(move)
                del gains[move]
            elif len(judge.scores) < count:
                judge.train([found])
                gains[move] = judge.gain(genotype, found)
                fresh.add(move)
            else:
                break
        for move in taken[:-1]:  # was it needed only until the others were taken?
            rest = [other for other in taken if other != move]
            found = functools.reduce(lambda g, other: other.apply(shared, g), rest, first)
            judge.train([found])
            if found != genotype and judge.gain(found, genotype) <= sigmas:
                record = [*record, {"undone": move.place} | judge.facts(genotype, found)]
                genotype, taken = found, rest
        while gains:  # with all of them stale or small
            likely = sorted(gains, key=gains.get, reverse=True)[:rivals]
            others = {move.apply(shared, genotype): move for move in likely}
            patient.train([genotype, *others])
            found = max(others, key=lambda other: patient.gain(genotype, other))
            if patient.gain(genotype, found) <= sigmas:
                break
            record = [*record, others[found].place | patient.facts(genotype, found)]
            genotype = found
            del gains[others[found]]
        trainings = {"trainings": len(judge.scores), "longer": len(patient.scores)}
        return Selected(genotype, [*record, trainings])

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


def _moves(shared: Shared, genotype: Genotype, count: int) -> list[_Move | _Without]:
    """Moves that change an architecture, of one row the least unlikely; then those of many."""

    def likelihood(move: _Move) -> float:
        weights = np.asarray(shared.mix[move.choice.table][move.choice.index], np.float64)
        return float(weights[move.option] / max(weights.max(), 1e-30))

    def changes(move: _Move | _Without) -> bool:
        return move.apply(shared, genotype) != genotype

    every = [_Move(choice, o) for choice in choices_of(shared.space) for o in choice.allowed]
    names = dict.fromkeys(move.place["option"] for move in every)
    without = list(filter(changes, map(_Without, names)))[:count]
    single = sorted(filter(changes, every), key=likelihood, reverse=True)
    return single[: count - len(without)] + without


class _Judge:
    """Trains architectures, each of them once."""

    def __init__(self, shared: Shared, steps: int):
        self.shared, self.steps = shared, steps
        self.scores: dict[Genotype, Score] = {}

    def train(self, genotypes: Sequence[Genotype]) -> None:
        """Trains and validates those that are new."""
        space, shared = self.shared.space, self.shared
        new = [g for g in dict.fromkeys(genotypes) if g not in self.scores]
        mixes = [one_hot(space, genotype, shared.mix) for genotype in new]
        scores = scores_of(shared.train, self.steps, mixes)
        self.scores |= dict(zip(new, scores, strict=True))

    def contest(
        self, rivals: Mapping[Genotype, _Move | _Without]
    ) -> tuple[Genotype, dict[str, Any]]:
        """The one of the least loss, which tells equals apart better than accuracy; and all."""
        self.train(list(rivals))
        best = max(rivals, key=lambda genotype: self.scores[genotype].negative_loss)
        return best, {"longer": [m.place | self.scores[g].facts for g, m in rivals.items()]}

    def gain(self, before: Genotype, after: Genotype) -> float:
        """Gained accuracy in standard errors of the difference."""
        old, new = (self.scores[genotype].accuracy for genotype in (before, after))
        variance = (old * (1 - old) + new * (1 - new)) / self.shared.images
        return (new - old) / math.sqrt(max(variance, 1e-12))

    def facts(self, before: Genotype, after: Genotype) -> dict[str, Any]:
        """The numbers, for the record."""
        gain = {"sigmas": self.gain(before, after), "instead_of": self.scores[before].facts}
        return gain | self.scores[after].facts
