"""Data sets of smaller images."""

import dataclasses

import jax
import numpy as np

from dnas import checks
from dnas.data.content import Content, hashed
from dnas.data.dataset import Arrays, Dataset, Examples, Source, Split
from dnas.data.images import LabelledImages
from dnas.data.segmented import SegmentedImages


def pooled(data: Dataset, pool: int) -> Dataset:
    """The data set with images averaged over squares, as ImageNet16-120 is made of ImageNet.

    Args:
      data: the data set, of images unless `pool` is 1.
      pool: the side of a square in pixels; 1 leaves the examples as they are.

    Returns:
      The data set. Labels of pixels are those in the middle of the squares.

    Raises:
      ValueError: that does not divide height and width, or there are no images.
    """
    checks.whole("pool", pool)
    if pool == 1:
        return data
    if not isinstance(data, LabelledImages | SegmentedImages):
        raise ValueError(f"pool={pool}: expected 1, since {data.name!r} holds no images")
    if any(side % pool for side in data.image_shape[:2]):
        raise ValueError(
            f"pool={pool}: expected a divisor of height and width, images are "
            f"{list(data.image_shape)}"
        )

    def small(split: Split) -> Split:
        return Split(PooledSource(split.source, pool), split.indices)

    return dataclasses.replace(data, train=small(data.train), test=small(data.test))


@dataclasses.dataclass(frozen=True, eq=False)
class PooledSource:
    """Images averaged over squares; see `dnas.data.dataset.Source`.

    Attributes:
      source: of the images.
      factor: the side of a square.
    """

    source: Source
    factor: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.source.examples["image"].shape
        return height // self.factor, width // self.factor, channels

    @property
    def examples(self) -> Examples:
        """See `Source.examples`."""
        smaller = {"image": self.image_shape, "labels": self.image_shape[:2]}
        return {
            name: jax.ShapeDtypeStruct(smaller.get(name, x.shape), x.dtype)
            for name, x in self.source.examples.items()
        }

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: np.ndarray) -> Arrays:
        """See `Source.read`."""
        return self._pool(self.source.read(indices))

    def load(self, indices: np.ndarray) -> Arrays:
        """See `Source.load`."""
        return self._pool(self.source.load(indices))

    def column(self, name: str, indices: np.ndarray) -> np.ndarray:
        """See `Source.column`."""
        return (
            self.load(indices)[name]
            if name in ("image", "labels")
            else self.source.column(name, indices)
        )

    def content(self, indices: np.ndarray) -> Content:
        """See `Source.content`."""
        whole = self.source.content(indices)
        pieces = [f"averaged over squares of {self.factor} pixels".encode(), whole.digest.encode()]
        return whole._replace(digest=hashed(pieces))

    def _pool(self, arrays: Arrays) -> Arrays:
        height, width, channels = self.image_shape
        images = arrays["image"]
        squares = (len(images), height, self.factor, width, self.factor, channels)
        means = images.reshape(squares).mean((2, 4), dtype=np.float32)
        smaller = {"image": np.rint(means).astype(np.uint8)}
        if "labels" in arrays:
            middle = slice(self.factor // 2, None, self.factor)
            smaller["labels"] = arrays["labels"][:, middle, middle]
        return arrays | smaller
