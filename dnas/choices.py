"""The rows of a space that can be chosen in, and tables of mixing weights on the host.

What an architecture is, only the space knows: whatever was decided is handed to
`SearchSpace.discretize` as weights, and an option can be chosen if the space takes it when it is
the strongest of all. That leaves out the 'none' of DARTS, and the tables of edge weights, without a
rule for either.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnas.genotype import Genotype
from dnas.space import SearchSpace, Traits

Tables = dict[str, np.ndarray]  # [rows, options], or [n, rows, options] for n mixes


class Choice(NamedTuple):
    """A row whose options can be chosen.

    Attributes:
      part: the part of the genotype that it belongs to.
      table: its table.
      index: its position there.
      row: its name.
      options: the names of all its options.
      allowed: positions of those that the space can take.
      traits: what the options are.
    """

    part: str
    table: str
    index: int
    row: str
    options: tuple[str, ...]
    allowed: tuple[int, ...]
    traits: tuple[Traits, ...]

    def is_skip(self, option: str | None) -> bool:
        """Whether that is one of its options, and a skip connection."""
        return option in self.options and self.traits[self.options.index(option)].identity

    @property
    def place(self) -> dict[str, str]:
        """Where it is, for the record."""
        return {"part": self.part, "row": self.row}


@functools.lru_cache(maxsize=32)
def choices_of(space: SearchSpace) -> tuple[Choice, ...]:
    """The rows that can be chosen in, with the options that the space can take.

    An option can be taken when the space takes it, were it the strongest of all.
    """
    every_one, found = ones(space), []
    for table, decision in space.decisions.items():
        for index, row in enumerate(decision.rows):
            every = tuple(range(len(decision.options)))
            place = decision.part, table, index, row
            choice = Choice(*place, decision.options, every, decision.traits)
            taken = [
                space.discretize(replaced(every_one, choice, option, 2.0))[choice.part].get(row)
                for option in every
            ]
            allowed = tuple(o for o in every if taken[o] == decision.options[o])
            if allowed:
                found.append(choice._replace(allowed=allowed))
    return tuple(found)


def one_hot(
    space: SearchSpace, genotype: Genotype, others: Mapping[str, Any] | None = None
) -> Tables:
    """The mixing weights with which a supernet computes an architecture.

    Args:
      space: the search space.
      genotype: the architecture. Rows that it leaves out have no weight at all.
      others: weights of the tables that no genotype tells, those of edges; ones by default.
    """
    tables = ones(space)
    choices = choices_of(space)
    for name in {choice.table for choice in choices}:
        tables[name] = np.zeros_like(tables[name])
    for choice in choices:
        option = genotype[choice.part].get(choice.row)
        if option is not None:
            tables[choice.table][choice.index, choice.options.index(option)] = 1
    chosen = {choice.table for choice in choices}
    return {n: t if n in chosen or others is None else others[n] for n, t in tables.items()}


def masked(mix: Mapping[str, Any], masks: Mapping[str, np.ndarray]) -> Tables:
    """Mixing weights of which only some options are left; every row keeps its total weight.

    Args:
      mix: mixing weights.
      masks: 1 for the options that are left and 0 for the others, of the same shapes. Options of
        weight zero that are left alone share their row's total; rows of zeros get no weight.
    """
    tables = {}
    for name, table in mix.items():
        table, mask = np.asarray(table, np.float64), masks[name]
        kept = np.where((table * mask).sum(-1, keepdims=True) > 0, table * mask, mask)
        left = kept.sum(-1, keepdims=True)
        scale = table.sum(-1, keepdims=True) / np.where(left > 0, left, 1)
        tables[name] = (kept * scale).astype(np.float32)
    return tables


def ones(space: SearchSpace) -> Tables:
    """Tables of equal weights."""
    return {n: np.ones((len(d.rows), len(d.options))) for n, d in space.decisions.items()}


def replaced(tables: Tables, choice: Choice, options: Any, value: ArrayLike) -> Tables:
    """The tables with another weight of some options in one row."""
    changed = tables[choice.table].copy()
    changed[choice.index, options] = value
    return {**tables, choice.table: changed}


def stacked(mixes: Sequence[Tables]) -> Tables:
    """Mixes as one: float32 tables ``[n, rows, options]``."""
    return {n: np.stack([mix[n] for mix in mixes]).astype(np.float32) for n in mixes[0]}


def count(mixes: Tables) -> int:
    """How many mixes were stacked."""
    return len(next(iter(mixes.values())))
