"""The differentiable method: pure functions on pytrees.

>>> import dnas
>>> method = dnas.gradient.hypergrad.unrolled()
"""

from dnas.gradient import (
    alignment,
    bilevel,
    eigen,
    freeze,
    hypergrad,
    implicit,
    optimizers,
    perturb,
    regularize,
    relax,
    sparse,
    stopping,
)

__all__ = [
    "alignment",
    "bilevel",
    "eigen",
    "freeze",
    "hypergrad",
    "implicit",
    "optimizers",
    "perturb",
    "regularize",
    "relax",
    "sparse",
    "stopping",
]
