"""Pictures of cells: nodes in a line from left to right, edges as arcs above them."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dnas import edges
from dnas.genotype import Genotype
from dnas.viz import style
from dnas.viz.rows import draw_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths are inches: the axes fill the figure and count in them.
_BOX = (0.76, 0.40)  # a node
_LIFT = 0.36  # an arc rises by this for each node that it passes
_PORT = 0.13  # between the ends of two arcs on one node
_HEAD = (0.105, 0.045)  # length and half width of an arrow's head
_BUS = 0.34  # from the nodes down to the line that collects the output
_MARGIN = 0.15
_TITLE = 0.34
_GAP = 0.30  # between two cells
_LETTER = (0.074, 0.17)  # a letter of a label, generously
_FONT = 8.5
_OUTER, _INNER = "#FFF3D6", "#EAF1F8"  # input and output nodes, nodes between


class _Edge(NamedTuple):
    source: int
    target: int
    option: str

    @property
    def span(self) -> int:
        return self.target - self.source


def draw_genotype(genotype: Genotype) -> "Figure":
    """Draws every cell of a genotype.

    A cell with several input nodes ends, as in DARTS, in the concatenation of its other nodes;
    a cell with a single one, as in NAS-Bench-201, ends in its last node. Where rows are not
    named after edges (``'0->2'``), it is a list of rows and options.

    Args:
      genotype: of any space.

    Returns:
      The figure, as large as the cells need.

    Raises:
      ValueError: the genotype has no parts, a part is empty, or an edge leads backwards.
    """
    rows = [row for part in genotype.parts() for row in genotype[part]]
    if not all(map(edges.is_edge, rows)):
        return draw_rows(genotype)
    cells = {
        part: [_Edge(*edges.ends(row), option) for row, option in genotype[part].items()]
        for part in genotype.parts()
    }
    if not cells or not all(cells.values()):
        raise ValueError(f"there is nothing to draw in {genotype}")
    options = [edge.option for cell in cells.values() for edge in cell]
    strokes = style.strokes(options)
    # Nodes are so far apart that the longest label fits between two of them.
    unit = _BOX[0] + 0.3 + max(_label_width(option) for option in options)
    columns = max(_columns(cell) for cell in cells.values())
    width = 2 * _MARGIN + (columns - 1) * unit + _BOX[0]
    heights = [_height(cell) for cell in cells.values()]
    height = 2 * _MARGIN + sum(heights) + _GAP * (len(heights) - 1)

    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    x = _MARGIN + _BOX[0] / 2 + unit * np.arange(columns)
    top = height - _MARGIN
    for (part, cell), extent in zip(cells.items(), heights, strict=True):
        title = part if "cell" in part else f"{part} cell"
        axes.text(_MARGIN, top, title, fontsize=11, weight="bold", color=style.INK, va="top")
        _draw_cell(axes, cell, strokes, x, top - extent)
        top -= extent + _GAP
    return figure


def _inputs(cell: list[_Edge]) -> list[int]:
    targets = {edge.target for edge in cell}
    return [node for node in range(max(targets)) if node not in targets]


def _concatenates(cell: list[_Edge]) -> bool:
    """Whether all inner nodes lead to the output, and not the last alone."""
    leaves = {edge.target for edge in cell} - {edge.source for edge in cell}
    return len(_inputs(cell)) > 1 or len(leaves) > 1


def _columns(cell: list[_Edge]) -> int:
    return max(edge.target for edge in cell) + 1 + _concatenates(cell)


def _height(cell: list[_Edge]) -> float:
    below = _BUS + 0.1 if _concatenates(cell) else 0.0
    return _TITLE + _lift(max(edge.span for edge in cell)) + 0.12 + _BOX[1] + below


def _lift(span: int) -> float:
    """How far the top of an arc is above the nodes; edges of span 1 are straight."""
    return _LIFT * (span - 1) + 0.06 if span > 1 else 0.0


def _label_width(option: str) -> float:
    return _LETTER[0] * len(style.readable(option))


def _draw_cell(
    axes: "Axes",
    cell: list[_Edge],
    strokes: dict[str, style.Stroke],
    x: np.ndarray,
    bottom: float,
) -> None:
    """Draws one cell, with its nodes at `x` and its lowest line above `bottom`."""
    last = max(edge.target for edge in cell)
    inputs, concatenates = _inputs(cell), _concatenates(cell)
    middle = bottom + _BOX[1] / 2 + (_BUS + 0.1 if concatenates else 0)
    curves = [_curve(edge, cell, x, middle) for edge in cell]
    for edge, curve in zip(cell, curves, strict=True):
        _draw_edge(axes, curve, strokes[edge.option])
    for edge, place in zip(cell, _label_places(cell, curves), strict=True):
        axes.text(
            place[0],
            place[1],
            style.readable(edge.option),
            ha="center",
            va="center",
            fontsize=_FONT,
            color=strokes[edge.option].color,
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )
    names = {node: str(node) for node in range(last + 1)}
    if len(inputs) == 1:
        names[inputs[0]] = f"in ({inputs[0]})"
    if concatenates:
        if len(inputs) > 1:
            names |= {n: f"$c_{{k-{len(inputs) - i}}}$" for i, n in enumerate(inputs)}
        names[last + 1] = "$c_k$" if len(inputs) > 1 else "out"
        how = "concatenate" if len(inputs) > 1 else "mean"
        _draw_concatenation(axes, x[[n for n in names if n not in inputs]], middle, how)
    else:
        names[last] = f"out ({last})"
    for node, name in names.items():
        outer = node in inputs or node == max(names)
        _draw_node(axes, name, x[node], middle, _OUTER if outer else _INNER)


def _draw_node(axes: "Axes", name: str, x: float, y: float, color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    width, height = _BOX
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=color,
            edgecolor=style.INK,
            linewidth=0.9,
            zorder=4,
        )
    )
    label = axes.text(x, y, name, fontsize=10, color=style.INK, zorder=5)
    label.set(ha="center", va="center_baseline")


def _port(edge: _Edge, cell: list[_Edge], node: int) -> float:
    """Where an arc meets its node, so that arcs on one node keep apart and do not cross there.

    Arcs that arrive take the left half of the node's top, those that leave the right half;
    the longer an arc, the nearer to the centre.
    """
    arrives = node == edge.target
    siblings = sorted(
        e.span for e in cell if e.span > 1 and (e.target if arrives else e.source) == node
    )
    step = min(_PORT, (_BOX[0] / 2 - 0.12) / len(siblings))
    offset = 0.06 + step * (len(siblings) - 1 - siblings.index(edge.span))
    return -offset if arrives else offset


def _curve(edge: _Edge, cell: list[_Edge], x: np.ndarray, middle: float) -> np.ndarray:
    """The four points of the cubic curve of an edge, ``[4, 2]``, from source to target."""
    if edge.span == 1:
        start = np.array([x[edge.source] + _BOX[0] / 2, middle])
        end = np.array([x[edge.target] - _BOX[0] / 2, middle])
        return np.linspace(start, end, 4)
    top = middle + _BOX[1] / 2
    left = x[edge.source] + _port(edge, cell, edge.source)
    right = x[edge.target] + _port(edge, cell, edge.target)
    height = top + _lift(edge.span) / 0.75  # the curve reaches three quarters of this
    lean = 0.12 * (right - left)
    return np.array([[left, top], [left + lean, height], [right - lean, height], [right, top]])


def _points(curve: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points of a cubic curve, ``[len(t), 2]``."""
    s = 1 - t
    return np.stack([s**3, 3 * s**2 * t, 3 * s * t**2, t**3], axis=1) @ curve


def _label_places(cell: list[_Edge], curves: list[np.ndarray]) -> list[np.ndarray]:
    """Chooses where on its curve each label stands.

    Labels of straight edges stand above them. On an arc, the place nearest to its top is taken
    that keeps clear of other labels and, where that can be, of other arcs. The tops alone are
    always free of other labels: arcs of one height are at least one node apart, and nodes are
    further apart than the longest label is wide.
    """
    dense = [_points(curve, np.linspace(0, 1, 200)) for curve in curves]
    boxes: list[tuple[np.ndarray, np.ndarray]] = []  # centres and half sizes
    places = [np.zeros(2)] * len(cell)
    for i in sorted(range(len(cell)), key=lambda i: cell[i].span):
        half = np.array([_label_width(cell[i].option) / 2 + 0.03, _LETTER[1] / 2])
        if cell[i].span == 1:
            best = curves[i].mean(0) + [0, half[1] + 0.045]
        else:
            offsets = np.arange(0, 0.3, 0.02)  # the flatter part of the arc, its top first
            candidates = _points(curves[i], 0.5 + np.stack([offsets, -offsets], 1).ravel())
            others = [points for j, points in enumerate(dense) if j != i]
            costs = [_clashes(place, half, others, boxes) for place in candidates]
            best = candidates[int(np.argmin(costs))]
        boxes.append((best, half))
        places[i] = best
    return places


def _clashes(
    place: np.ndarray,
    half: np.ndarray,
    others: list[np.ndarray],
    boxes: list[tuple[np.ndarray, np.ndarray]],
) -> float:
    """How bad a place for a label is: overlaps with labels weigh more than those with arcs."""
    labels = sum(bool((abs(place - at) < half + size).all()) for at, size in boxes)
    arcs = sum(bool((abs(points - place) < half).all(1).any()) for points in others)
    return 100 * labels + arcs


def _draw_edge(axes: "Axes", curve: np.ndarray, stroke: style.Stroke) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    line = curve
    if stroke.arrow:  # the head is a polygon of its own: it stays whole where the line is broken
        length, half = _HEAD
        tip = curve[3]
        along = (tip - curve[2]) / np.linalg.norm(tip - curve[2])
        across = np.array([-along[1], along[0]])
        base = tip - length * along
        corners = [tip, base + half * across, base - half * across]
        axes.add_patch(Polygon(corners, facecolor=stroke.color, linewidth=0, zorder=2))
        line = np.array([*curve[:3], base + 0.02 * along])
    axes.add_patch(
        PathPatch(
            Path(line, [Path.MOVETO] + 3 * [Path.CURVE4]),
            fill=False,
            edgecolor=stroke.color,
            linestyle=stroke.dashes,
            linewidth=1.6 if stroke.arrow else 1.1,
            capstyle="butt",
            zorder=2,
        )
    )


def _draw_concatenation(axes: "Axes", x: np.ndarray, middle: float, how: str) -> None:
    """Draws the line below that collects the nodes at ``x[:-1]`` into the output at ``x[-1]``."""
    under = middle - _BOX[1] / 2
    bus = under - _BUS
    line = {"color": style.FAINT, "linewidth": 1.1, "zorder": 1}
    for node in x[:-1]:
        axes.plot([node, node], [under, bus], **line)
    axes.plot([x[0], x[-1]], [bus, bus], **line)
    up = np.linspace([x[-1], bus], [x[-1], under], 4)
    _draw_edge(axes, up, style.Stroke(style.FAINT))
    text = {"ha": "center", "va": "bottom", "fontsize": _FONT, "color": "#7A7A7A"}
    axes.text(x[-2:].mean(), bus + 0.05, how, **text)
