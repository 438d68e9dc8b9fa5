"""Pictures of genotypes whose rows are no edges: a list of what each row chose."""

from typing import TYPE_CHECKING

from dnas.genotype import Genotype
from dnas.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lengths are inches.
_MARGIN = 0.15
_TITLE, _LINE = 0.34, 0.24
_LETTER = 0.078  # the width of a letter, generously
_GAP = 0.3  # between a row's name and its option
_FONT = 8.5


def draw_rows(genotype: Genotype) -> "Figure":
    """Draws every part of a genotype as a list of rows and options.

    Args:
      genotype: of any space; it has rows.

    Returns:
      The figure, as large as the lists need.
    """
    parts = {part: genotype[part] for part in genotype.parts()}
    options = [option for rows in parts.values() for option in rows.values()]
    names = [row for rows in parts.values() for row in rows]
    strokes = style.strokes(options)
    left = _MARGIN + _LETTER * max(map(len, [*names, *parts])) + _GAP
    width = left + _LETTER * max(map(len, options)) + _MARGIN
    height = 2 * _MARGIN + sum(_TITLE + _LINE * len(rows) for rows in parts.values())

    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    top = height - _MARGIN
    for part, rows in parts.items():
        axes.text(_MARGIN, top, part, fontsize=11, weight="bold", color=style.INK, va="top")
        top -= _TITLE
        for row, option in rows.items():
            axes.text(_MARGIN, top, style.arrow(row), fontsize=_FONT, color=style.INK, va="top")
            color = strokes[option].color
            axes.text(left, top, style.readable(option), fontsize=_FONT, color=color, va="top")
            top -= _LINE
    return figure
