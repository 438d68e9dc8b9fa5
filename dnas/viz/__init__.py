"""Pictures of cells and of alphas, ready for a paper.

Everything returns a `matplotlib.figure.Figure` and needs neither pyplot nor a display; `save`
writes it. Matplotlib is imported when a picture is drawn (``pip install 'dnas[viz]'``).
"""

from dnas.viz.alphas import heat_alphas, plot_alphas
from dnas.viz.cells import draw_genotype
from dnas.viz.style import save

__all__ = ["draw_genotype", "heat_alphas", "plot_alphas", "save"]
