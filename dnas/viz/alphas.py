"""Pictures of mixing weights: over training, and at its end."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnas import edges
from dnas.space import Decision
from dnas.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths are inches.
_AXES = (1.58, 1.0)  # one panel
_PANEL = (1.75, 1.30)  # a panel and the space to the next one
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.65, 0.15, 0.1, 0.28
_TITLE = 0.43  # above the panels of a table
_ENTRY = 0.2  # a line of the legend
_CELL = (0.52, 0.30)  # a number of a heat map


def plot_alphas(
    history: Mapping[str, ArrayLike],
    decisions: Mapping[str, Decision],
    selected: Mapping[str, ArrayLike] | None = None,
) -> "Figure":
    """Draws mixing weights over training: one panel a row, one line an option.

    Rows named after edges stand in a triangle, target nodes downwards and source nodes to the
    right, also where each edge has a table of its own; other rows stand in a plain grid. Tables
    stand one below the other. The option that was selected has the heavy line.

    Args:
      history: for each table its mixing weights ``[epochs + 1, rows, options]``, from the start
        of the search on. One entry is enough.
      decisions: the names of rows and options; tables without history are left out.
      selected: for some or all tables what is above zero for selected options,
        ``[rows, options]``; the strongest at the end where a table is missing.

    Returns:
      The figure.

    Raises:
      ValueError: a history, or what is selected, is unknown to the decisions or not of their shape.
    """
    chosen = _tables(selected, decisions, lead=0) if selected else {}
    groups = _groups(_tables(history, decisions, lead=1), decisions, chosen)
    places = {name: _places([panel.row for panel in panels]) for name, panels in groups.items()}
    columns = 1 + max(column for place in places.values() for _, column in place)
    lines = {name: 1 + max(line for line, _ in place) for name, place in places.items()}
    strokes = style.strokes(o for panels in groups.values() for p in panels for o in p.options)
    width = _LEFT + _RIGHT + _PANEL[0] * columns
    # The legend goes to the free corner of the first table, or below where it does not fit.
    used = 1 + max(column for line, column in next(iter(places.values())) if line == 0)
    corner = _legend_columns(strokes, _PANEL[0] * (columns - used) - 0.2)
    inside = corner > 0 and math.ceil(len(strokes) / corner) * _ENTRY <= _AXES[1]
    if not inside:
        width = max(width, _LEFT + _RIGHT + _entry_width(strokes))
    below = _legend_columns(strokes, width - 0.2)
    bottom = _BOTTOM if inside else _BOTTOM + 0.12 + _ENTRY * math.ceil(len(strokes) / below)
    height = _TOP + bottom + sum(_TITLE + _PANEL[1] * count for count in lines.values())

    figure = style.new_figure(width, height)
    top = height - _TOP
    for name, panels in groups.items():
        heading = {"fontsize": 11, "weight": "bold", "color": style.INK, "va": "top"}
        figure.text(_LEFT / width, top / height, name, **heading)
        top -= _TITLE
        highest = max(float(panel.values.max()) for panel in panels)
        for panel, (line, column) in zip(panels, places[name], strict=True):
            x = _LEFT + _PANEL[0] * column
            y = top - _PANEL[1] * line - _AXES[1]
            axes = figure.add_axes(
                (x / width, y / height, _AXES[0] / width, _AXES[1] / height),
                title=style.arrow(panel.row),
                ylim=(0, 1.05 * highest or 1.0),
            )
            _draw_panel(axes, panel, strokes)
            axes.tick_params(
                labelbottom=(line + 1, column) not in places[name], labelleft=column == 0
            )
        top -= _PANEL[1] * lines[name]
    small = {"fontsize": 9, "color": style.INK}
    x = _LEFT + (_PANEL[0] * columns - _PANEL[0] + _AXES[0]) / 2
    figure.text(x / width, (bottom - 0.17) / height, "epoch", ha="center", **small)
    y = (bottom + height - _TOP - _TITLE) / 2
    figure.text(0.12 / width, y / height, "mixing weight", rotation=90, va="center", **small)
    if inside:
        right = _LEFT + _PANEL[0] * (columns - 1) + _AXES[0]
        at = (right / width, 1 - (_TOP + _TITLE) / height)
        _legend(figure, strokes, corner, "upper right", at)
    else:
        _legend(figure, strokes, below, "lower center", (0.5, 0.0))
    return figure


def heat_alphas(mix: Mapping[str, ArrayLike], decisions: Mapping[str, Decision]) -> "Figure":
    """Draws mixing weights as a table of numbers on colours, the largest of each row framed.

    Args:
      mix: mixing weights ``[rows, options]`` of each table.
      decisions: the names of rows and options; tables without weights are left out.

    Returns:
      The figure.

    Raises:
      ValueError: weights are unknown to the decisions, or not of their shape.
    """
    tables = _tables(mix, decisions, lead=0)
    named = [decisions[name] for name in tables]
    longest = max(len(option) for decision in named for option in decision.options)
    bottom = 0.2 + 0.058 * longest
    lefts = [0.25 + 0.075 * max(map(len, decision.rows)) for decision in named]
    widths = [
        max(_CELL[0] * len(d.options), 0.1 * len(n)) for n, d in zip(tables, named, strict=True)
    ]
    width = sum(lefts) + sum(widths) + 0.15 + 0.2 * (len(widths) - 1)
    height = bottom + _CELL[1] * max(len(d.rows) for d in named) + 0.4
    highest = max(float(values.max()) for values in tables.values())
    figure = style.new_figure(width, height)
    x = 0.0
    for (name, values), left, extent in zip(tables.items(), lefts, widths, strict=True):
        tall, wide = _CELL[1] * values.shape[0], _CELL[0] * values.shape[1]
        axes = figure.add_axes(
            ((x + left) / width, (height - 0.4 - tall) / height, wide / width, tall / height)
        )
        axes.set_title(name, fontsize=11, weight="bold", color=style.INK, loc="left")
        _draw_heat(axes, values, highest, decisions[name])
        x += left + extent + 0.2
    return figure


def _tables(
    given: Mapping[str, ArrayLike], decisions: Mapping[str, Decision], lead: int
) -> dict[str, np.ndarray]:
    """The given arrays in the order of the decisions, checked; `lead` axes come before rows."""
    if not given or not set(given) <= set(decisions):
        raise ValueError(f"expected weights of {sorted(decisions)}, got {sorted(given) or 'none'}")
    arrays = {name: np.asarray(given[name], np.float64) for name in decisions if name in given}
    for name, array in arrays.items():
        expected = (len(decisions[name].rows), len(decisions[name].options))
        if array.ndim != lead + 2 or array.shape[lead:] != expected or not array.size:
            raise ValueError(
                f"weights of {name!r} must have shape {('epochs + 1',) * lead + expected},"
                f" got {array.shape}"
            )
    return arrays


def _places(rows: Sequence[str]) -> list[tuple[int, int]]:
    """Where the panel of each row stands: a line and a column of the grid."""
    try:
        ends = [edges.ends(row) for row in rows]
    except ValueError:
        columns = min(5, math.ceil(math.sqrt(len(rows))))
        return [divmod(position, columns) for position in range(len(rows))]
    targets = sorted({target for _, target in ends})
    sources = sorted({source for source, _ in ends})
    return [(targets.index(target), sources.index(source)) for source, target in ends]


class _Panel(NamedTuple):
    """What is drawn of one row."""

    row: str
    options: tuple[str, ...]
    values: np.ndarray  # [epochs + 1, options]
    heavy: np.ndarray  # [options]


def _groups(
    tables: Mapping[str, np.ndarray],
    decisions: Mapping[str, Decision],
    selected: Mapping[str, np.ndarray],
) -> dict[str, list[_Panel]]:
    """The rows of each table; single edges, whose tables are named PART.EDGE, by their part."""
    groups: dict[str, list[_Panel]] = {}
    for name, values in tables.items():
        part, rows, options = decisions[name]
        peaks = np.eye(len(options), dtype=bool)[values[-1].argmax(-1)]  # one, also among equals
        heavy = selected[name] > 0 if name in selected else peaks
        panels = groups.setdefault(part if decisions[name].chooses else name, [])
        panels += [_Panel(row, options, values[:, i], heavy[i]) for i, row in enumerate(rows)]
    return groups


def _draw_panel(axes: "Axes", panel: _Panel, strokes: dict[str, style.Stroke]) -> None:
    """Draws the weights of one row, the heavy lines last."""
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(len(panel.values))
    marker = "o" if len(epochs) == 1 else None
    for k in np.argsort(panel.heavy, kind="stable"):
        color, dashes, _ = strokes[panel.options[k]]
        width = 2.2 if panel.heavy[k] else 1.1
        axes.plot(epochs, panel.values[:, k], color=color, ls=dashes, lw=width, marker=marker)
    if len(epochs) > 1:
        axes.set_xlim(0, len(epochs) - 1)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    else:
        axes.set_xticks([0])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_title(axes.get_title(), fontsize=8.5, weight="bold", color=style.INK, pad=3)
    axes.grid(color=style.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(style.FAINT)
    axes.tick_params(labelsize=7.5, length=2.5, color=style.FAINT, labelcolor=style.INK)


def _draw_heat(axes: "Axes", values: np.ndarray, highest: float, decision: Decision) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(values, cmap="Blues", vmin=0.0, vmax=highest, aspect="auto")
    best = values.argmax(1)
    for i, j in np.ndindex(values.shape):
        weight = "bold" if j == best[i] else "normal"
        color = "white" if values[i, j] > 0.6 * highest else style.INK
        centred = {"ha": "center", "va": "center_baseline", "fontsize": 7.5}
        axes.text(j, i, f"{values[i, j]:.2f}", weight=weight, color=color, **centred)
    for i, j in enumerate(best):
        frame = {"fill": False, "edgecolor": "#C44E00", "linewidth": 1.5, "clip_on": False}
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, zorder=3, **frame))
    names = [style.readable(option) for option in decision.options]
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(turned if max(map(len, names)) > 5 else {}))
    axes.set_yticks(range(len(decision.rows)), [style.arrow(row) for row in decision.rows])
    axes.tick_params(length=0, labelsize=8, labelcolor=style.INK)
    axes.spines[:].set_visible(False)


def _entry_width(strokes: Mapping[str, style.Stroke]) -> float:
    return 0.65 + 0.07 * max(len(option) for option in strokes)


def _legend_columns(strokes: Mapping[str, style.Stroke], width: float) -> int:
    """The columns of the legend that fit into this width, evenly filled."""
    columns = int(width / _entry_width(strokes))
    return 0 if columns < 1 else math.ceil(len(strokes) / math.ceil(len(strokes) / columns))


def _legend(
    figure: "Figure",
    strokes: Mapping[str, style.Stroke],
    columns: int,
    loc: Literal["upper right", "lower center"],
    anchor: tuple[float, float],
) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, ls=dashes, lw=2.0, label=style.readable(option))
        for option, (color, dashes, _) in strokes.items()
    ]
    figure.legend(
        handles=handles,
        loc=loc,
        bbox_to_anchor=anchor,
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=style.INK,
        handlelength=2.4,
        columnspacing=1.6,
        borderaxespad=0.1,
    )
