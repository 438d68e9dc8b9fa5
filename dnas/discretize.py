"""From mixing weights to discrete choices, and how decided the weights are.

Everything here is plain NumPy on the host and takes NumPy or JAX arrays. The rules belong to
no space: a space applies the one that its paper uses, and makes its genotype of the choices.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnas import edges
from dnas.genotype import Genotype
from dnas.space import Decision

COLLAPSE_SHARE = 0.5  # see `collapse_warning`
_IDLE = ("skip_connect", "none")  # the options that compute nothing


class Row(NamedTuple):
    """One decision with its weights.

    Attributes:
      name: what is decided, such as the edge ``'0->2'``.
      options: the candidates, by name.
      weights: their mixing weights, ``[options]``.
    """

    name: str
    options: tuple[str, ...]
    weights: np.ndarray


def rows(weights: ArrayLike, decision: Decision) -> list[Row]:
    """Splits one table into its rows.

    Args:
      weights: mixing weights, ``[rows, options]``.
      decision: the names of rows and options.

    Raises:
      ValueError: the weights are not of the decision's shape, or not finite.
    """
    array = np.asarray(weights)
    expected = (len(decision.rows), len(decision.options))
    if array.shape != expected:
        raise ValueError(f"expected weights of shape {expected} [rows, options], got {array.shape}")
    array = array.astype(np.float64)
    for row, values in zip(decision.rows, array, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(f"the weights of row {row!r} are not finite: {values.tolist()}")
    return [Row(r, decision.options, w) for r, w in zip(decision.rows, array, strict=True)]


def argmax(weights: ArrayLike, decision: Decision) -> dict[str, str]:
    """Takes the option of the largest weight in every row.

    The rule of NAS-Bench-201 (Dong and Yang, 2020). Between equal weights the option that the
    decision lists first wins.

    Args:
      weights: mixing weights, ``[rows, options]``.
      decision: the names of rows and options.

    Returns:
      The option of each row, in the decision's order of rows.
    """
    return {row.name: row.options[int(row.weights.argmax())] for row in rows(weights, decision)}


def top_edges(
    weights: ArrayLike, decision: Decision, keep: int = 2, exclude: Iterable[str] = ("none",)
) -> dict[str, str]:
    """Keeps the strongest incoming edges of every node: `top_edges_of` for a single table."""
    return top_edges_of(rows(weights, decision), keep, exclude)


def top_edges_of(
    table: Iterable[Row], keep: int = 2, exclude: Iterable[str] = ("none",)
) -> dict[str, str]:
    """Keeps the strongest incoming edges of every node.

    The rule of DARTS (Liu et al., 2019, section 2.4): an edge is as strong as its best option
    that is not excluded, each node keeps its `keep` strongest edges, and each of them takes
    that option. Ties fall as in the published code: between equal edges the one from the
    lower node wins (its sort is stable), between equal options the first.

    Args:
      table: the rows of one cell, named after edges (``'0->2'``), in any order. They may differ
        in their options, and come from several tables: join what `rows` makes of each.
      keep: edges kept for each node; a node with fewer keeps them all.
      exclude: options that are never taken.

    Returns:
      The option of each edge kept. Nodes ascend; the edges of one node go from the strongest to
      the weakest, which is the order of the pairs in a published genotype.

    Raises:
      ValueError: a row is no edge or occurs twice, has no option left, or `keep` is below one.
    """
    if keep < 1:
        raise ValueError(f"each node must keep at least one edge, got keep={keep}")
    excluded = frozenset(exclude)
    incoming: dict[int, dict[int, tuple[float, str]]] = {}
    for row in table:
        source, target = edges.ends(row.name)
        allowed = [k for k, option in enumerate(row.options) if option not in excluded]
        if not allowed:
            raise ValueError(
                f"row {row.name!r} has only excluded options: {', '.join(row.options)}"
            )
        best = max(allowed, key=lambda k: row.weights[k])  # the first of equals
        sources = incoming.setdefault(target, {})
        if source in sources:
            raise ValueError(f"row {row.name!r} occurs twice")
        sources[source] = (float(row.weights[best]), row.options[best])
    return {
        edges.name(source, target): sources[source][1]
        for target, sources in sorted(incoming.items())
        for source in sorted(sorted(sources), key=lambda s: -sources[s][0])[:keep]
    }


def report(
    mix: Mapping[str, ArrayLike], decisions: Mapping[str, Decision]
) -> dict[str, dict[str, Any]]:
    """Tells how decided mixing weights are.

    Args:
      mix: mixing weights ``[rows, options]`` of each table; weights that do not sum to one in
        every row are scaled to it.
      decisions: the names of rows and options of each table.

    Returns:
      Plain data, fit for JSON. For each table::

        {'rows': {row: {'strongest': the option of the largest weight,
                        'entropy': in nats,
                        'relative_entropy': entropy / log(number of options): 0 decided, 1 open,
                        'margin': largest weight minus the second largest}},
         'relative_entropy': mean over rows,
         'margin': mean over rows,
         'shares': {'skip_connect': share of rows in which it is strongest, 'none': the same}}

      A row with a single option has no entropy and a margin of one.

    Raises:
      ValueError: a table is missing, of the wrong shape, not finite, negative, or zero.
    """
    return {name: _report_table(name, mix, decision) for name, decision in decisions.items()}


def _report_table(name: str, mix: Mapping[str, ArrayLike], decision: Decision) -> dict[str, Any]:
    if name not in mix:
        raise ValueError(f"no weights for table {name!r}; there are some for {sorted(mix)}")
    described = {row.name: _report_row(row) for row in rows(mix[name], decision)}
    strongest = [row["strongest"] for row in described.values()]
    return {
        "rows": described,
        "relative_entropy": float(np.mean([r["relative_entropy"] for r in described.values()])),
        "margin": float(np.mean([r["margin"] for r in described.values()])),
        "shares": {option: strongest.count(option) / len(strongest) for option in _IDLE},
    }


def _report_row(row: Row) -> dict[str, Any]:
    total = row.weights.sum()
    if (row.weights < 0).any() or total <= 0:
        raise ValueError(
            f"row {row.name!r} must have weights >= 0 of which one is positive,"
            f" got {row.weights.tolist()}: pass mixing weights, not logits"
        )
    weights = row.weights / total
    positive = weights[weights > 0]
    entropy = max(0.0, float(-(positive * np.log(positive)).sum()))  # never -0.0
    second, first = np.sort(weights)[-2:] if len(weights) > 1 else (0.0, 1.0)
    return {
        "strongest": row.options[int(weights.argmax())],
        "entropy": entropy,
        "relative_entropy": entropy / math.log(len(weights)) if len(weights) > 1 else 0.0,
        "margin": float(first - second),
    }


def summary(report: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes what `report` found, one line for each table."""
    return "\n".join(
        f"{name}: relative entropy {table['relative_entropy']:.2f},"
        f" margin {table['margin']:.3f}, strongest option is skip_connect in"
        f" {table['shares']['skip_connect']:.0%} and none in {table['shares']['none']:.0%}"
        f" of {len(table['rows'])} rows"
        for name, table in report.items()
    )


def collapse_warning(
    found: Genotype | Mapping[str, Mapping[str, Any]], threshold: float = COLLAPSE_SHARE
) -> str | None:
    """Warns when skip connections and missing edges take over.

    Differentiable searches are known to end there (Zela et al., 2020): such a network has few
    weights left, looks good in the supernet and is poor when trained. DARTS' published cells have
    skip connections on up to 3 of 8 edges, hence the default threshold of one half.

    Args:
      found: a genotype, whose choices count; or what `report` returned, whose strongest
        options count, also those that the discretizer excludes.
      threshold: the share of ``skip_connect`` and ``none`` together, in any one part or table,
        from which on there is a warning.

    Returns:
      The warning, or None where there is nothing to warn of.
    """
    if isinstance(found, Genotype):
        parts = {part: list(found[part].values()) for part in found.parts()}
    else:
        parts = {
            name: [row["strongest"] for row in table["rows"].values()]
            for name, table in found.items()
        }
    lines = []
    for part, options in parts.items():
        counts = {option: options.count(option) for option in _IDLE}
        if options and sum(counts.values()) >= threshold * len(options):
            taken = " and ".join(f"{option} {n}" for option, n in counts.items() if n)
            lines.append(f"{part!r} has {taken} of {len(options)}")
    if not lines:
        return None
    return (
        f"the search may have collapsed to edges that compute nothing: {'; '.join(lines)}"
        f" (warned of from {threshold:.0%} on). Compare with random architectures, and try fewer"
        " epochs or more regularization of the weights."
    )
