"""The differentiable method: pure functions on pytrees.

>>> import dnas
>>> method = dnas.gradient.hypergrad.unrolled()
"""

from dnas.gradient import (
    alignment,
    bilevel,
    eigen,
    fit,
    freeze,
    hypergrad,
    implicit,
    optimizers,
    parts,
    perturb,
    regularize,
    relax,
    skeleton,
    sparse,
    stopping,
)

__all__ = [
    "alignment",
    "bilevel",
    "eigen",
    "fit",
    "freeze",
    "hypergrad",
    "implicit",
    "optimizers",
    "parts",
    "perturb",
    "regularize",
    "relax",
    "skeleton",
    "sparse",
    "stopping",
]
