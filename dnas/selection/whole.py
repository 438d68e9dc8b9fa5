"""Selections among whole architectures, which are validated with the shared weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
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
    generator,
    one_hot,
    replaced,
    scores_of,
)
from dnas.space import SearchSpace


def best_of_samples(count: int = 100, temperature: float = 1.0) -> Selection:
    """Draws architectures from the mixing weights and takes the one that validates best.

    The last step of random search with weight sharing (Li and Talwalkar, 2019), whose weights
    are all alike; see `sample` for how architectures are drawn.

    Args:
      count: architectures to draw. What is drawn twice is validated once.
      temperature: mixing weights are raised to the power of its inverse; above 1 architectures
        differ more, far above they are uniform.
    """
    checks.whole("count", count)
    checks.positive("temperature", temperature)

    def select(shared: Shared) -> Selected:
        judge, rng = _Judge(shared), generator(shared.key)
        drawn = [sample(shared.space, shared.mix, rng, temperature) for _ in range(count)]
        best = judge.best(drawn)
        every = [score.facts for score in judge.scores.values()]
        found = {
            "drawn": count,
            "different": len(every),
            "best": {part: best[part] for part in best.parts()},
        }
        return Selected(best, [found | judge.scores[best].facts | {"scores": every}])

    return select


def local_search(start: Selection | None = None, sweeps: int = 3) -> Selection:
    """Improves an architecture, row by row, with the shared weights.

    A sweep goes through all rows in random order. Of the present architecture and those that differ
    in that row (of edges that are left out, those where it takes the place of another) the
    one that validates best goes on. Ends with a sweep that changed nothing.

    Args:
      start: selects the first architecture; `strongest` by default.
      sweeps: through all rows, at most.
    """
    checks.whole("sweeps", sweeps)
    start = start or strongest()

    def select(shared: Shared) -> Selected:
        judge, rng = _Judge(shared), generator(jax.random.fold_in(shared.key, 1))
        genotype, record = start(shared)
        for _ in range(sweeps):
            before = genotype
            for number in rng.permutation(len(judge.choices)):
                choice = judge.choices[number]
                found = judge.best([genotype, *neighbors(shared.space, genotype, choice)])
                if found != genotype:
                    option = found[choice.part].get(choice.row)
                    scores = {"instead_of": judge.scores[genotype].facts}
                    scores |= judge.scores[found].facts
                    record = [*record, choice.place | {"option": option} | scores]
                    genotype = found
            if genotype == before:
                break
        return Selected(genotype, record)

    return select


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


def neighbors(space: SearchSpace, genotype: Genotype, choice: Choice) -> list[Genotype]:
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
    return list(found)


class _Judge:
    """Validates architectures with shared weights, each of them once."""

    def __init__(self, shared: Shared):
        self.shared, self.choices = shared, choices_of(shared.space)
        self.scores: dict[Genotype, Score] = {}

    def best(self, genotypes: Sequence[Genotype]) -> Genotype:
        """The one that validates best, the first of equals."""
        shared = self.shared
        new = [g for g in dict.fromkeys(genotypes) if g not in self.scores]
        mixes = [one_hot(shared.space, g, shared.mix) for g in new]
        scores = scores_of(shared.discrete or shared.accuracy, shared.state, mixes)
        self.scores |= dict(zip(new, scores, strict=True))
        return max(genotypes, key=self.scores.__getitem__)
