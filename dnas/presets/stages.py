"""Stages: searches whose space shrinks or grows on the way."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from dnas import capabilities
from dnas.parts import Part, made, part
from dnas.presets.parts import mixing
from dnas.space import SearchSpace

# (the space of the whole search, the space of the stage before, the mix that it ended with)
Change = Callable[[SearchSpace, SearchSpace, Mapping[str, np.ndarray]], SearchSpace]


def same() -> Change:
    """The change of a stage that searches where the one before did."""
    return lambda base, before, mix: before


def deepen(cells: int, keep: float | None = None) -> Change:
    """More cells, with fewer candidates (P-DARTS; Chen et al., 2019).

    Args:
      cells: so many where the user's space has 8, and in proportion to that else; 3 at least.
      keep: the share of the candidates that every edge keeps, its strongest; None keeps all.
    """

    def change(base, before, mix):
        count = max(round(base.cells * cells / 8), min(base.cells, 3))
        space = base if keep is None else shrunk(base, before, mix, keep)
        return dataclasses.replace(cast(Any, space), cells=count)

    return change


def widen(partial: int, keep: float) -> Change:
    """More of the channels, with fewer candidates (DrNAS; Chen et al., 2021).

    Args:
      partial: only the first ``1 / partial`` of the channels pass the operations.
      keep: the share of the candidates that every edge keeps, its strongest.
    """

    def change(base, before, mix):
        return mixing(partial=partial)(shrunk(base, before, mix, keep))

    return change


def shrunk(
    base: SearchSpace, before: SearchSpace, mix: Mapping[str, ArrayLike], share: float
) -> SearchSpace:
    """The space in which every edge keeps only its strongest candidates; see `keep_strongest`."""
    space = capabilities.need(base, capabilities.Restricted, "a search that drops candidates")
    return space.restrict(keep_strongest(before, mix, share))


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a search, with a supernet of its own.

    Attributes:
      share: of the search's epochs.
      change: makes the stage's space: a `Change`, or a `dnas.parts.Part` that makes one. For the
        first stage, the space before is that of the whole search, and there is no mix yet.
      goes_on: whether the stage goes on where the one before ended: with its weights and alphas
        as far as the spaces agree, the momentum of the weights, and in the middle of all
        schedules. Else it starts anew.
      settings: attributes of the preset that are others in this stage, as pairs of names and
        values; a mapping becomes that.
    """

    share: float
    change: Part | Change = part(same)
    goes_on: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "settings", tuple(dict(self.settings).items()))

    def changed(
        self, base: SearchSpace, before: SearchSpace, mix: Mapping[str, np.ndarray]
    ) -> SearchSpace:
        """The stage's space; see `Change` for the arguments."""
        return made(self.change)(base, before, mix)


class Span(NamedTuple):
    """Where a stage lies among those that go on from each other.

    Attributes:
      first: epochs of these stages before it.
      last: epochs of these stages at its end.
      epochs: epochs of all of them.
    """

    first: int
    last: int
    epochs: int


def spans(stages: Sequence[Stage], epochs: int) -> list[Span]:
    """Divides the epochs of a search among its stages.

    Raises:
      ValueError: a stage would get no epoch.
    """
    ends = [round(epochs * share) for share in itertools.accumulate(s.share for s in stages)]
    starts = [0, *ends][: len(ends)]
    if any(a >= b for a, b in zip(starts, ends, strict=True)):
        shares = ", ".join(f"{stage.share:.2g}" for stage in stages)
        raise ValueError(
            f"epochs={epochs}: expected one epoch at least for each of {len(stages)} stages "
            f"with the shares {shares}"
        )
    runs: list[list[int]] = []
    for i, stage in enumerate(stages):
        if stage.goes_on and runs:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [
        Span(starts[i] - starts[run[0]], ends[i] - starts[run[0]], ends[run[-1]] - starts[run[0]])
        for run in runs
        for i in run
    ]


def keep_strongest(
    space: SearchSpace, mix: Mapping[str, ArrayLike], share: float
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Which candidates the edges of a space keep: the strongest of each.

    Args:
      space: a space with mixed edges.
      mix: its mixing weights.
      share: of the candidates of every edge; two at least are kept.

    Returns:
      What `SearchSpace.restrict` takes.
    """
    keep: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, decision in space.decisions.items():
        if not decision.chooses:
            continue  # weights of whole edges
        part, rows, options = decision
        count = max(2, round(share * len(options)))
        order = np.argsort(-np.asarray(mix[name]), -1, kind="stable")[:, :count]
        kept = keep.setdefault(part, {})
        for row, places in zip(rows, order, strict=True):
            kept[row] = tuple(options[place] for place in sorted(places))
    return keep
