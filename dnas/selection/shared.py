"""What all selections share: the trained supernet, and tables of mixing weights on the host."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dnas.genotype import Genotype
from dnas.space import SearchSpace, Traits

Tables = dict[str, np.ndarray]  # [rows, options], or [n, rows, options] for n mixes


class Shared(NamedTuple):
    """A trained supernet, as selections see it; see `dnas.jobs.shared.make_shared`.

    Attributes:
      space: the search space.
      mix: the mixing weights that the search ended with, without noise.
      state: of the search. Selections only hand it on.
      accuracy: ``(state, mixes) -> (losses [n], accuracies [n])`` on fixed images of the
        architecture's half.
      finetune: ``(state, mix, steps) -> state``: trains the weights at fixed mixing weights, on
        their own half.
      resume: ``(state, masks, steps) -> (state, mix)``: goes on with the search, weights and
        alphas, where rows with a single 1 in their mask are decided.
      steps_per_epoch: of `finetune` and `resume`.
      key: PRNG key of the selection.
      discrete: `accuracy` for mixes with at most one weight above zero in each row of
        operations, which may be quicker; None for `accuracy` itself.
      train: ``(steps, mixes, weights=0) -> (losses [n], accuracies [n])``: trains each of such
        mixes by itself, all from the same initial weights, those of this number, with its noise and
        augmentation, on the same images in the same order, and validates on all of the
        architecture's half.
      images: that `train` validates on.
      parameters: ``() -> {table: [rows, options]}``, as `dnas.costs.parameters` has it; None in
        spaces that `dnas.costs` does not know.
    """

    space: SearchSpace
    mix: Tables
    state: Any
    accuracy: Callable[[Any, Tables], tuple[np.ndarray, np.ndarray]]
    finetune: Callable[[Any, Tables, int], Any]
    resume: Callable[[Any, Tables, int], tuple[Any, Tables]]
    steps_per_epoch: int
    key: jax.Array
    discrete: Callable[[Any, Tables], tuple[np.ndarray, np.ndarray]] | None = None
    train: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    images: int = 0
    parameters: Callable[[], Tables] | None = None

    def steps(self, epochs: float) -> int:
        """So many epochs in steps."""
        return round(epochs * self.steps_per_epoch)


class Selected(NamedTuple):
    """What a selection chose.

    Attributes:
      genotype: the architecture.
      record: the decisions on the way to it, as plain data for the report.
    """

    genotype: Genotype
    record: list[dict[str, Any]]


Selection = Callable[[Shared], Selected]


class Choice(NamedTuple):
    """A row whose options can be chosen.

    Attributes:
      table: its table.
      index: its position there.
      row: its name.
      options: the names of all its options.
      allowed: positions of those that the space can take.
      traits: what the options are.
    """

    table: str
    index: int
    row: str
    options: tuple[str, ...]
    allowed: tuple[int, ...]
    traits: tuple[Traits, ...]

    @property
    def part(self) -> str:
        """The part of the genotype that it belongs to."""
        return self.table.split(".")[0]

    def is_skip(self, option: str | None) -> bool:
        """Whether that is one of its options, and a skip connection."""
        return option in self.options and self.traits[self.options.index(option)].identity

    @property
    def place(self) -> dict[str, str]:
        """Where it is, for the record."""
        return {"part": self.part, "row": self.row}


class Score(NamedTuple):
    """How well a supernet or an architecture validates; the larger the better."""

    accuracy: float
    negative_loss: float

    @property
    def facts(self) -> dict[str, float]:
        """The numbers, for the record."""
        return {"accuracy": self.accuracy, "loss": -self.negative_loss}


@functools.lru_cache(maxsize=32)
def choices_of(space: SearchSpace) -> tuple[Choice, ...]:
    """The rows that can be chosen in, with the options that the space can take.

    An option can be taken when the space takes it, were it the strongest of all.
    """
    every_one, found = ones(space), []
    for table, decision in space.decisions.items():
        for index, row in enumerate(decision.rows):
            every = tuple(range(len(decision.options)))
            choice = Choice(table, index, row, decision.options, every, decision.traits)
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


def scores_of(
    accuracy: Callable[[Any, Tables], tuple[Any, Any]], state: Any, mixes: Sequence[Tables]
) -> list[Score]:
    """Scores by `Shared.accuracy` or `Shared.discrete`; a loss that is NaN is the worst."""
    if not mixes:
        return []
    stacked = {n: np.stack([mix[n] for mix in mixes]).astype(np.float32) for n in mixes[0]}
    losses, accuracies = accuracy(state, stacked)
    losses = np.nan_to_num(np.asarray(losses, np.float64), nan=np.inf)
    return [Score(float(a), -float(x)) for x, a in zip(losses, accuracies, strict=True)]


def generator(key: jax.Array) -> np.random.Generator:
    """A generator on the host that a PRNG key stands for."""
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))


def ones(space: SearchSpace) -> Tables:
    """Tables of equal weights."""
    return {n: np.ones((len(d.rows), len(d.options))) for n, d in space.decisions.items()}


def replaced(tables: Tables, choice: Choice, options: Any, value: float) -> Tables:
    """The tables with another weight of some options in one row."""
    changed = tables[choice.table].copy()
    changed[choice.index, options] = value
    return {**tables, choice.table: changed}
