"""Stages: searches whose space shrinks or grows on the way."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnas.space import SearchSpace

# (the space of the whole search, the space of the stage before, the mix that it ended with)
Change = Callable[[SearchSpace, SearchSpace, Mapping[str, np.ndarray]], SearchSpace]


def same(base: SearchSpace, before: SearchSpace, mix: Mapping[str, np.ndarray]) -> SearchSpace:
    """The `Change` of a stage that searches where the one before did."""
    del base, mix
    return before


class Stage(NamedTuple):
    """A part of a search, with a supernet of its own.

    Attributes:
      share: of the search's epochs.
      change: makes the stage's space. For the first stage, the space before is that of the whole
        search, and there is no mix yet.
      goes_on: whether the stage goes on where the one before ended: with its weights and alphas
        as far as the spaces agree, the momentum of the weights, and in the middle of all
        schedules. Else it starts anew.
      settings: attributes of the preset that are others in this stage.
    """

    share: float
    change: Change = same
    goes_on: bool = False
    settings: Mapping[str, Any] = {}


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
    for name, (rows, options) in space.decisions.items():
        if any("->" in option for option in options):
            continue  # weights of whole edges
        count = max(2, round(share * len(options)))
        order = np.argsort(-np.asarray(mix[name]), -1, kind="stable")[:, :count]
        part = keep.setdefault(name.split(".")[0], {})
        for row, places in zip(rows, order, strict=True):
            part[row] = tuple(options[place] for place in sorted(places))
    return keep
