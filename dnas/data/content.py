"""What tells the content of images from that of others: a hash, and what of them it covers."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

BLOCK = 1024  # images or records that are hashed at a time


class Content(NamedTuple):
    """The content of some images, in their order.

    Attributes:
      digest: a hash, the same in every process.
      covers: what went into it, in words.
    """

    digest: str
    covers: str


def hashed(pieces: Iterable[bytes]) -> str:
    """128 bits of the SHA-256 of pieces, each with its length before it."""
    state = hashlib.sha256()
    for piece in pieces:
        state.update(len(piece).to_bytes(8, "little"))
        state.update(piece)
    return state.hexdigest()[:32]


def blocks(indices: np.ndarray) -> list[np.ndarray]:
    """The indices in groups of `BLOCK`."""
    return [indices[i : i + BLOCK] for i in range(0, len(indices), BLOCK)]


def spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the indices, and at least one, spread evenly over them."""
    count = max(1, min(len(indices), count))
    return indices[np.linspace(0, len(indices) - 1, count).astype(np.int64)]
