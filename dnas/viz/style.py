"""What all pictures share: colours, names, figures."""

import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#262626"  # text and outlines
FAINT = "#A6A6A6"  # what supports the picture
GRID = "#E6E6E6"


class Stroke(NamedTuple):
    """How the line of an operation is drawn.

    Attributes:
      color: of line and label.
      dashes: Matplotlib's line style.
      arrow: whether it ends in an arrow: something arrives.
    """

    color: str
    dashes: str | tuple[float, tuple[float, ...]] = "-"
    arrow: bool = True


# Hues that stay apart in the common kinds of colour blindness (after Okabe and Ito, 2008).
# Related operations share a hue; those that compute nothing are grey and broken.
_STROKES = {
    "none": Stroke("#8C8C8C", (0, (1, 1.6)), arrow=False),
    "skip_connect": Stroke("#3B3B3B", (0, (5, 2))),
    "max_pool_3x3": Stroke("#C44E00"),
    "avg_pool_3x3": Stroke("#E69F00"),
    "sep_conv_3x3": Stroke("#00609E"),
    "sep_conv_5x5": Stroke("#4BA3DC"),
    "dil_conv_3x3": Stroke("#00805C"),
    "dil_conv_5x5": Stroke("#5CBF8B"),
    "nor_conv_1x1": Stroke("#4BA3DC"),
    "nor_conv_3x3": Stroke("#00609E"),
    "noise": Stroke("#B8417F"),
}
_OTHERS = ("#7B4FA3", "#B8417F", "#8A6B2E", "#2A9D9D", "#C43C3C", "#6B7A1F", "#5560C9", "#D97BB0")


def strokes(options: Iterable[str]) -> dict[str, Stroke]:
    """The strokes of these operations; those without one of their own get spare colours."""
    found: dict[str, Stroke] = {}
    spare = 0
    for option in options:
        if option in _STROKES:
            found[option] = _STROKES[option]
        elif option not in found:
            found[option] = Stroke(_OTHERS[spare % len(_OTHERS)])
            spare += 1
    return found


def readable(option: str) -> str:
    """The name of an operation as it is printed: ``'sep_conv_3x3'`` in words."""
    return re.sub(r"(\d)x(\d)", "\\1\N{MULTIPLICATION SIGN}\\2", option).replace("_", " ")


def arrow(row: str) -> str:
    """The name of a row as it is printed: ``'0→2'`` for an edge, others as they are."""
    return row.replace("->", "\N{RIGHTWARDS ARROW}")


def new_figure(width: float, height: float) -> "Figure":
    """An empty white figure of this size in inches, known to no window system.

    Raises:
      ImportError: Matplotlib is not installed.
    """
    try:
        from dnas.viz.picture import Picture
    except ImportError as error:
        raise ImportError("pictures need Matplotlib: pip install 'dnas[viz]'") from error
    return Picture(figsize=(width, height), facecolor="white")


def save(figure: "Figure", path: str | pathlib.Path | BinaryIO, dpi: int = 200) -> None:
    """Writes a picture; the ending of the path chooses the format (png, pdf, svg).

    Args:
      figure: the picture.
      path: where it goes; an open file gets a png.
      dpi: dots an inch.
    """
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.08)
