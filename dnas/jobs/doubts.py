"""What speaks against taking the end of a search for a result."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnas import discretize
from dnas.gradient.freeze import Frozen

EVEN_ENTROPY, EVEN_MARGIN = 0.995, 0.01  # see `undecided`
AT_ONCE = 0.9  # see `frozen_at_once`


def undecided(
    report: Mapping[str, Mapping[str, Any]],
    initial: Mapping[str, np.ndarray],
    alphas: Mapping[str, np.ndarray],
) -> str | None:
    """Warns where mixing weights tell options apart hardly more than noise does.

    There are two signs, and each kind of cell is looked at by itself; tables that weigh whole
    edges do not count.

    - Even weights: a mean relative entropy of `EVEN_ENTROPY` or more, which is printed as 1.00,
      and a mean margin of `EVEN_MARGIN` or less. Normal logits of K options and of the standard
      deviation s have a relative entropy of about ``1 - (1 - 1 / K) s**2 / (2 log K)``. Five
      options have one of 0.995 at s = 0.14, where the first leads the second by 0.02 on average; a
      margin of 0.01 is that of s = 0.07. Two options of that margin have 50.5 % and 49.5 %.
    - Little movement: the root mean square of how far alphas moved is no more than that of the
      initial ones. Their order is then more the initialisation's than the search's. Initial alphas
      of zero have no noise, and any movement will do.

    Args:
      report: of the mixing weights at the end, see `dnas.discretize.report`.
      initial: alphas as a search begins with them, ``[rows, options]`` for each table.
      alphas: alphas at the end.

    Returns:
      The warning, or None where there is nothing to warn of.
    """
    lines = []
    for name, tables in discretize.groups(report).items():
        members = [table for table in report if discretize.group(table, report[table]) == name]
        if not all(table["chooses"] for table in tables):
            continue
        rows = [row for table in tables for row in table["rows"].values()]
        entropy, margin = (
            np.mean([r[key] for r in rows]) for key in ("relative_entropy", "margin")
        )
        if entropy >= EVEN_ENTROPY and margin <= EVEN_MARGIN:
            lines.append(
                f"the weights of {name!r} are even (relative entropy {entropy:.3f}, margin"
                f" {margin:.4f})"
            )
        noise = _rms([initial[table] for table in members])
        moved = _rms([alphas[table] - initial[table] for table in members])
        if moved <= noise:
            lines.append(
                f"alphas of {name!r} moved by {moved:.2g}, no more than their initial"
                f" noise of {noise:.2g}"
            )
    if not lines:
        return None
    return (
        f"the search is undecided, and its result little more than chance: {'; '.join(lines)}."
        " Search for more epochs, or with a larger alpha_learning_rate."
    )


def _rms(tables: Sequence[np.ndarray]) -> float:
    every = np.concatenate([np.asarray(table, np.float64).ravel() for table in tables])
    return float(np.sqrt(np.mean(every**2)))


def worse_than_chance(history: Sequence[Mapping[str, float]], chance: float) -> str | None:
    """Warns where the last epoch's training loss is above that of guessing.

    Alphas were judged by weights that know less than nothing then.

    Args:
      history: of the search.
      chance: the loss of an answer that knows nothing of the example; see `dnas.tasks.Task`.
    """
    loss = history[-1]["train_loss"]
    if loss <= chance:
        return None
    return (
        f"the training loss of the last epoch is {loss:.4g}, worse than chance ({chance:.4g}): the"
        " weights learned nothing by which alphas could be judged."
        " Try a smaller learning_rate, or more epochs."
    )


def frozen_at_once(frozen: Frozen) -> str | None:
    """Warns where a single decision froze at least `AT_ONCE` of all operations."""
    at_once = float(frozen.at_once)
    if at_once < AT_ONCE:
        return None
    return (
        f"a single decision froze {at_once:.0%} of the operations, so that weights hardly trained"
        " from then on. Lower the threshold of the freezing rule."
    )
