"""The figure that all pictures are; imports Matplotlib, so it is imported late itself."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        return buffer.getvalue()
