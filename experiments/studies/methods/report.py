"""The report: a table in markdown, and pictures."""

import itertools
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnas.benchmarks import NASBench201
from dnas.spaces import published
from dnas.viz import save, style
from experiments.studies.methods.settings import (
    CONTROLS,
    METHODS,
    SETTINGS,
    UNSEARCHED,
    digest,
)

# For each kind of setting the columns: what they show, and from which score.
_TABLE_COLUMNS = {
    "validation, CIFAR-10, %": "valid/cifar10",
    "CIFAR-10, %": "cifar10",
    "CIFAR-100, %": "cifar100",
    "ImageNet16-120, %": "ImageNet16-120",
    "regret on CIFAR-10": "regret/cifar10",
    "rank on CIFAR-10": "rank/cifar10",
    "share of skips": "idle/cell",
}
_TRAINED_COLUMNS = {
    "trained, %": "accuracy",
    "share of skips or noise, normal": "idle/normal",
    "in reduction": "idle/reduce",
    "parameters": "parameters",
}
_DIGITS = {"rank/cifar10": 0, "parameters": 0}
_ROW = 0.22  # inches
_FAILED = 4.0  # so many points below the weaker control are written, not drawn
_BLUE = "#00609E"
_HEAD = """# Methods under one budget: all numbers

Means and standard deviations over seeds; `n` is the number of seeds. The best method comes first.
Written by `python -m experiments.studies.methods --report=FILE.md`.
"""
_OLDER = "\\*"  # no list in markdown

Results = dict[str, list[dict[str, Any]]]  # by method


def read(folder: pathlib.Path) -> dict[str, Results]:
    """All results, by setting and method."""
    found: dict[str, Results] = {}
    for name in SETTINGS:
        path = folder / f"{name}.jsonl"
        lines = path.read_text().splitlines()[1:] if path.exists() else ()
        results = {(r["preset"], r["seed"]): r for r in map(json.loads, lines)}  # the last ones
        for (method, _), result in sorted(results.items()):
            found.setdefault(name, {}).setdefault(method, []).append(result)
    return found


def write(folder: pathlib.Path, path: pathlib.Path, table: NASBench201 | None) -> None:
    """Writes the table and, beside it, the pictures: scores, and skips over time.

    Raises:
      ValueError: there are no results.
    """
    results = read(folder)
    if not results:
        raise ValueError(f"no results in {folder}: run the comparison first")
    if table is not None:
        for name in (name for name in results if SETTINGS[name].recipe is None):
            for result in itertools.chain(*results[name].values()):
                number = table.number(published.parse_nas_bench_201(result["genotype"]))
                result["scores"]["valid/cifar10"] = float(
                    table.accuracy(number, "cifar10", "valid")
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    sections = [_HEAD]
    for name, methods in results.items():
        sections += [markdown(name, methods, table), _picture(f"{path.stem}-{name}.png", name)]
        save(draw(name, methods, table), path.with_name(f"{path.stem}-{name}.png"))
        curves = skips_by_epoch(methods)
        if curves and SETTINGS[name].recipe is None:
            sections.append(_picture(f"{path.stem}-{name}-skips.png", f"{name}: skips by epoch"))
            save(draw_skips(curves), path.with_name(f"{path.stem}-{name}-skips.png"))
    path.write_text("\n".join(sections))


def _picture(file: str, title: str) -> str:
    return f"![{title}]({file})\n"


def markdown(name: str, methods: Results, table: NASBench201 | None) -> str:
    """The table of one setting, the best method first."""
    columns = _TABLE_COLUMNS if SETTINGS[name].recipe is None else _TRAINED_COLUMNS
    found = {key for runs in methods.values() for run in runs for key in run["scores"]}
    columns = {title: key for title, key in columns.items() if key in found}
    titles = [*columns, "seconds", "of these for the selection"]
    lines = [f"## {name}", "", f"| method | n | {' | '.join(titles)} |"]
    lines.append("|---" * (len(titles) + 2) + "|")
    mixed = {method for method, runs in methods.items() if older(name, method, runs)}
    for method, runs in ranked(name, methods).items():
        cells = [_cell([r["scores"][key] for r in runs], key) for key in columns.values()]
        cells.append(f"{statistics.fmean(r['seconds'] for r in runs):.0f}")
        timed = [r["selection_seconds"] for r in runs if r.get("selection_seconds")]
        cells.append(f"{statistics.fmean(timed):.0f}" if timed else "")
        count = f"{len(runs)}{_OLDER}" if method in mixed else len(runs)
        lines.append(f"| {method} | {count} | {' | '.join(cells)} |")
    if table is not None and SETTINGS[name].recipe is None:
        every = [_every(table, key) for key in columns.values()]
        means = ["" if x is None else f"{x.mean():.2f} ± {x.std():.2f}" for x in every]
        best = ["" if x is None else f"{x.max():.2f}" for x in every]
        lines.append(f"| all architectures | 15,625 | {' | '.join(means)} | | |")
        lines.append(f"| the best of them | | {' | '.join(best)} | | |")
    if mixed:
        lines += ["", f"{_OLDER}: some of these runs are of other numbers than the preset's now."]
    return "\n".join(lines) + "\n"


def older(name: str, method: str, runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some of a method's runs are of other numbers than its preset has now."""
    if method not in METHODS:
        return False
    return {r["preset_digest"] for r in runs} != {digest(SETTINGS[name].preset(method))}


def _every(table: NASBench201, key: str) -> np.ndarray | None:
    """The accuracies of all architectures; None for other scores."""
    split, _, name = key.rpartition("/")
    if name not in table.datasets or split not in ("", "valid"):
        return None
    return np.asarray(table.accuracy(np.arange(5**6), name, split or "test"))


def ranked(name: str, methods: Results) -> Results:
    """The methods, that of the best mean accuracy first."""
    key = score_of(name)
    return dict(
        sorted(methods.items(), key=lambda m: -statistics.fmean(r["scores"][key] for r in m[1]))
    )


def score_of(name: str) -> str:
    """The score by which methods of a setting are compared."""
    return "cifar10" if SETTINGS[name].recipe is None else "accuracy"


def _cell(values: Sequence[float], key: str) -> str:
    digits = _DIGITS.get(key, 2)
    deviation = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{deviation}"


def draw(name: str, methods: Results, table: NASBench201 | None) -> Any:
    """One setting: a dot a seed, a bar at the mean, controls as lines; the best method first."""
    key, tabular = score_of(name), SETTINGS[name].recipe is None
    values = {m: [r["scores"][key] for r in runs] for m, runs in ranked(name, methods).items()}
    lines = {m: statistics.fmean(values.pop(m)) for m in CONTROLS if m in values}
    if tabular and table is not None and "random" in lines:  # all there are, not those drawn
        lines["random"] = float(np.mean(table.accuracy(np.arange(5**6))))
    height = _ROW * max(len(values), 1) + 0.9
    figure = style.new_figure(6.8, height)
    bottom, top = 0.5 / height, 1 - 0.4 / height
    figure.subplots_adjust(left=0.33, right=0.97, bottom=bottom, top=top)
    axes = figure.subplots()
    every = [*itertools.chain(*values.values()), *lines.values()]
    if tabular:
        _stretch(axes, table, min(every))
        label = "test accuracy, %, by the table; the axis is stretched towards the best"
    else:
        _cut(axes, values, min([*lines.values(), max(every)]) - _FAILED, max(every))
        label = "test accuracy, %, trained alike"
    _dots(axes, values)
    for dashes, (control, mean) in zip(("--", ":"), lines.items(), strict=False):
        axes.axvline(mean, color="#C44E00", ls=dashes, lw=1, label=control, zorder=0)
    if lines:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2}
        axes.legend(fontsize=8, frameon=False, **place)
    axes.set_title(name, loc="left", fontsize=9, weight="bold", color=style.INK)
    axes.set_xlabel(label, fontsize=8, color=style.INK)
    return figure


def _dots(axes: Any, values: Mapping[str, Sequence[float]]) -> None:
    """A row a method, named with its number of seeds."""
    for position, found in enumerate(values.values()):
        axes.plot(found, [position] * len(found), "o", color=_BLUE, ms=4, alpha=0.7, mew=0)
        if len(found) > 1:
            axes.plot([statistics.fmean(found)], [position], "|", color=style.INK, ms=11, mew=1.6)
    names = [f"{method}, n={len(found)}" for method, found in values.items()]
    axes.set_yticks(range(len(values)), names, fontsize=8)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=style.GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _cut(axes: Any, values: Mapping[str, Sequence[float]], lowest: float, highest: float) -> None:
    """An axis that begins there; what is lower is written at its edge."""
    axes.set_xlim(lowest, highest + 0.05 * (highest - lowest))
    for position, found in enumerate(values.values()):
        low = ", ".join(f"{value:.1f}" for value in found if value < lowest)
        if low:
            axes.text(lowest, position, f" \u25c2 {low}", fontsize=8, color=_BLUE, va="center")


def _stretch(axes: Any, table: NASBench201 | None, lowest: float) -> None:
    """An axis that is logarithmic in the distance to the best: most methods are close to it."""
    best = 94.38 if table is None else float(np.max(table.accuracy(np.arange(5**6)))) + 0.01
    nearest = 0.05

    def forward(x):
        return -np.log(np.maximum(best - x, 0) + nearest)

    axes.set_xscale("function", functions=(forward, lambda y: best + nearest - np.exp(-y)))
    axes.set_xlim(min(50, lowest - 1), best)
    axes.set_xticks([55, 80, 90, 93, 94, 94.3])


def skips_by_epoch(methods: Results) -> dict[str, list[list[float]]]:
    """For each method of now that searches, a list a seed: shares of edges that skip by epoch."""
    curves = {
        method: [r["idle_by_epoch"] for r in runs if r.get("idle_by_epoch")]
        for method, runs in methods.items()
        if method in METHODS and method not in UNSEARCHED
    }
    return {method: found for method, found in curves.items() if found}


def draw_skips(curves: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """How alphas drift: a small panel a method, a line a seed."""
    columns = min(5, len(curves))
    rows = -(-len(curves) // columns)
    width, height = 1.5 * columns + 0.3, 1.25 * rows + 0.5
    figure = style.new_figure(width, height)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    # Margins in inches, so that labels have their place beside few panels, too.
    margins = {"left": 0.65 / width, "right": 1 - 0.1 / width}
    margins |= {"bottom": 0.5 / height, "top": 1 - 0.25 / height}
    figure.subplots_adjust(**margins, hspace=0.45, wspace=0.12)
    for axes, (method, found) in itertools.zip_longest(
        grid.flat, sorted(curves.items()), fillvalue=(None, ())
    ):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.set_ylim(-0.04, 1.04)
        axes.set_visible(method is not None)
        axes.set_title(method, fontsize=7, loc="left", color=style.INK)
        for shares in found:
            axes.plot(range(len(shares)), shares, color=_BLUE, lw=1.1, alpha=0.7)
    figure.supxlabel("epochs", fontsize=8, color=style.INK)
    figure.supylabel("share of edges that skip", fontsize=8, color=style.INK)
    return figure
