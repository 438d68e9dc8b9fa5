"""From mixing weights to discrete choices, and how decided the weights are.

Everything here is plain NumPy on the host and takes NumPy or JAX arrays. The rules belong to
no space: a space applies the one that its paper uses, and makes its genotype of the choices.
"""

import collections
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnas import edges
from dnas.genotype import Genotype
from dnas.space import Decision

COLLAPSE_SHARE, COLLAPSE_CHANCE = 0.5, 0.05  # see `collapse_warning`
KINDS = {"idle": "compute nothing", "weightless": "have no weights"}  # of options, by their traits


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
    return argmax_of(rows(weights, decision))


def argmax_of(table: Iterable[Row]) -> dict[str, str]:
    """Takes the option of the largest weight in every row, as `argmax` for a single table."""
    return {row.name: row.options[int(row.weights.argmax())] for row in table}


def top_edges(weights: ArrayLike, decision: Decision, keep: int = 2) -> dict[str, str]:
    """Keeps the strongest incoming edges of every node: `top_edges_of` for a single table.

    Options that are no connection, by the decision's traits, are excluded.
    """
    pairs = zip(decision.options, decision.traits, strict=True)
    return top_edges_of(rows(weights, decision), keep, [o for o, traits in pairs if traits.zero])


def top_edges_of(
    table: Iterable[Row], keep: int = 2, exclude: Iterable[str] = ()
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

        {'part': the part of the genotype,
         'chooses': whether that takes one of the options in each row,
         'rows': {row: {'strongest': the option of the largest weight,
                        'entropy': in nats,
                        'relative_entropy': entropy / log(number of options): 0 decided, 1 open,
                        'margin': largest weight minus the second largest}},
         'relative_entropy': mean over rows,
         'margin': mean over rows,
         'kinds': {'idle': {'options': the names of those that compute nothing,
                            'share': of rows in which one of them is strongest,
                            'chance': that a uniformly random option is one of them},
                   'weightless': the same for those that have no weights}}

      A table without such options lacks the kind. A row with a single option has no entropy and a
      margin of one.

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
        "part": decision.part,
        "chooses": decision.chooses,
        "rows": described,
        "relative_entropy": float(np.mean([r["relative_entropy"] for r in described.values()])),
        "margin": float(np.mean([r["margin"] for r in described.values()])),
        "kinds": _kinds(decision, strongest),
    }


def _kinds(decision: Decision, strongest: list[str]) -> dict[str, Any]:
    described = list(zip(decision.options, decision.traits, strict=True))
    every = {
        "idle": [option for option, traits in described if traits.idle],
        "weightless": [option for option, traits in described if not traits.weights],
    }
    return {
        kind: {
            "options": options,
            "share": sum(option in options for option in strongest) / len(strongest),
            "chance": len(options) / len(decision.options),
        }
        for kind, options in every.items()
        if options
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
    """Writes what `report` found, a line for each of its `groups`."""
    lines = []
    for name, tables in groups(report).items():
        rows = [row for table in tables for row in table["rows"].values()]
        entropy, margin = (
            np.mean([r[key] for r in rows]) for key in ("relative_entropy", "margin")
        )
        line = f"{name}: relative entropy {entropy:.2f} (1: nothing preferred), margin {margin:.3f}"
        if any("weightless" in table["kinds"] for table in tables):
            taken = collections.Counter(
                row["strongest"]
                for table in tables
                for row in table["rows"].values()
                if row["strongest"] in table["kinds"].get("weightless", {}).get("options", ())
            )
            names = ", ".join(f"{option} {count}" for option, count in taken.most_common())
            line += f", strongest option has no weights in {taken.total()} of {len(rows)} rows"
            line += f" ({names})" if names else ""
        lines.append(line)
    return "\n".join(lines)


def groups(report: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The reported tables by kind of cell: those of its edges, ``'normal.0->2'``, are together."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, table in report.items():
        found.setdefault(group(name, table), []).append(table)
    return found


def group(name: str, table: Mapping[str, Any]) -> str:
    """The kind of cell that a reported table belongs to; one that only weighs is its own."""
    return table["part"] if table["chooses"] else name


def collapse_warning(
    report: Mapping[str, Mapping[str, Any]],
    genotype: Genotype | None = None,
    layers: Mapping[str, int] | None = None,
) -> str | None:
    """Warns when operations that compute nothing, or have no weights, take over.

    Differentiable searches are known to end with skip connections and missing edges (Zela et al.,
    2020): such a network has few weights left, looks good in the supernet and is poor when trained.
    A cell of poolings and skip connections has none at all. Both are looked at: the strongest
    option of every row, also where the discretizer excludes it (``none`` in DARTS), and the choices
    of the genotype. Tables named ``'normal.0->2'`` count together as ``'normal'``; tables that
    weigh whole edges do not count. What an option is, its decision says (`dnas.space.Traits`).

    There is a warning where at least `COLLAPSE_SHARE` of the choices are of such a kind, and
    uniformly random choices would be so in less than `COLLAPSE_CHANCE` of all cases: a binomial
    tail with each row's ``'chance'``. Three idle edges of six, say, are nothing unusual where two
    of five options are idle. The genotype's rows have the same chances, which is cautious where its
    discretizer excludes an option. For cells without weights there is one only if they are at least
    `COLLAPSE_SHARE` of all: reduction cells of poolings are usual in DARTS (Liu et al., 2019), and
    few.

    Args:
      report: what `report` returned.
      genotype: the architecture; rows that the report does not know have no chance to be idle.
      layers: for each table, how many cells it decides; by default as many as every other.

    Returns:
      The warning, or None where there is nothing to warn of.
    """
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    strongest: dict[str, dict[str, str]] = {}
    for table in report.values():
        if table["chooses"]:
            part = table["part"]
            options = {row: facts["strongest"] for row, facts in table["rows"].items()}
            strongest.setdefault(part, {}).update(options)
            kinds |= {(part, row): table["kinds"] for row in options}
    found: dict[str, Mapping[str, Mapping[str, str]]] = {"strongest options": strongest}
    if genotype is not None:
        found["genotype's choices"] = {part: genotype[part] for part in genotype.parts()}
    cells = {report[name]["part"]: count for name, count in (layers or {}).items()}
    lines = []
    for what, parts in found.items():
        idle, weightless = (
            {
                part: text
                for part, chosen in parts.items()
                if (text := _too_many(kind, part, chosen, kinds))
            }
            for kind in KINDS
        )
        total, without = (sum(cells.get(part, 1) for part in some) for some in (parts, weightless))
        every = weightless | idle if without >= COLLAPSE_SHARE * total else idle
        lines += [f"{what} of {part!r} are {text}" for part, text in every.items()]
    if not lines:
        return None
    return (
        f"the search may have collapsed: {'; '.join(lines)}."
        " Compare with random architectures, and try fewer epochs or more regularization of the"
        " weights."
    )


def _too_many(
    kind: str,
    part: str,
    chosen: Mapping[str, str],
    kinds: Mapping[tuple[str, str], Mapping[str, Any]],
) -> str | None:
    """Says how many of a part's choices are of a kind, if more than chance would explain."""
    facts = {row: kinds.get((part, row), {}).get(kind) for row in chosen}
    taken = collections.Counter(
        option
        for row, option in chosen.items()
        if (fact := facts[row]) is not None and option in fact["options"]
    )
    chance = _tail([0.0 if f is None else f["chance"] for f in facts.values()], taken.total())
    if not chosen or taken.total() < COLLAPSE_SHARE * len(chosen) or chance >= COLLAPSE_CHANCE:
        return None
    names = " and ".join(f"{option} {count}" for option, count in taken.most_common())
    often = f"so many in {chance:.2%} of random choices"
    return f"{names} of {len(chosen)}, which {KINDS[kind]} ({often})"


def _tail(chances: Iterable[float], least: int) -> float:
    """The probability of at least so many successes in independent trials."""
    counts = np.ones(1)  # the distribution of the number of successes
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(counts[least:].sum())
