"""What a data set is: two splits of labelled images, read only when they are needed.

A `Split` is a source of images and the indices of those that belong to it. Limiting and
halving work on the indices, so that nothing is decoded before somebody asks for images, and
then only what was asked for: a search that never touches the test split never decodes it.
"""

import collections
import dataclasses
import functools
import itertools
import warnings
from typing import Protocol

import numpy as np

from dnas import checks
from dnas.data.content import Content, blocks, hashed
from dnas.data.reading import bar

DEVICE_BUDGET = 2**30  # Bytes of uint8 images up to which a set is kept in memory.
STATISTICS_IMAGES = 50_000  # Images from which mean and standard deviation are computed.

# Numbers that set the random streams of `limit` and `halve` apart where both get one seed.
_LIMIT, _HALVE = 1, 2
_SHOWN = 5  # classes that a line names


class Source(Protocol):
    """Random access to labelled images, all of one shape.

    Attributes:
      image_shape: height, width and channels.
    """

    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        """The number of images."""

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A few images, in the caller's thread: uint8 ``[n, H, W, C]`` and int32 ``[n]``."""

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for many images, with all processors and a progress bar."""

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Their labels alone, int32 ``[n]``, without decoding an image."""

    def content(self, indices: np.ndarray) -> Content:
        """What tells these images and labels, in this order, from others; cheap for large sets."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Images that lie in memory already.

    Attributes:
      all_images: uint8 ``[N, H, W, C]``.
      all_labels: int32 ``[N]``.
    """

    all_images: np.ndarray
    all_labels: np.ndarray

    def __repr__(self) -> str:
        return f"ArraySource({_amount(self)})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.all_images.shape[1:]

    def __len__(self) -> int:
        return len(self.all_images)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`. Everything in its order comes back without a copy."""
        if np.array_equal(indices, np.arange(len(self))):
            return self.all_images, self.all_labels
        return self.all_images[indices], self.all_labels[indices]

    load = read

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """See `Source.labels`."""
        return self.all_labels[indices]

    def content(self, indices: np.ndarray) -> Content:
        """See `Source.content`."""
        labels = self.all_labels[indices].astype("<i4").tobytes()
        pixels = (self.all_images[some].tobytes() for some in blocks(indices))
        return Content(hashed(itertools.chain([labels], pixels)), "all pixels and labels")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some images of a source, in a fixed order.

    Attributes:
      source: where the images come from.
      indices: int ``[N]``, which images of the source belong to the split.
      whole: the split that this one is a part of, where the whole is wanted in memory anyway:
        the parts then take their images from it, instead of decoding them again.
      rows: int ``[N]``, where the images of this part are in the whole.
    """

    source: Source
    indices: np.ndarray
    whole: "Split | None" = None
    rows: np.ndarray | None = None

    @classmethod
    def all(cls, source: Source) -> "Split":
        """All images of a source, in its order."""
        return cls(source, np.arange(len(source)))

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Split({_amount(self)})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.source.image_shape

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded images, known without decoding them."""
        return len(self) * int(np.prod(self.image_shape))

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        if self.whole is not None:
            return self.whole.images[self.rows], self.whole.labels[self.rows]
        return self.source.load(self.indices)

    @property
    def images(self) -> np.ndarray:
        """All images, uint8 ``[N, H, W, C]``; decoded when first asked for, then kept."""
        return self._arrays[0]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """All labels, int32 ``[N]``; no image is decoded for them."""
        return self._arrays[1] if "_arrays" in self.__dict__ else self.source.labels(self.indices)

    @property
    def content(self) -> Content:
        """What tells the split from others; looked at whenever it is asked for."""
        return self.source.content(self.indices)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled images for training and testing.

    Attributes:
      name: the set's name.
      train: what search and training may use.
      test: what only the final evaluation of a trained network may use.
      classes: number of classes; labels are 0..classes-1.
      class_names: their names, in the order of the labels; None where they have none.
    """

    name: str
    train: Split
    test: Split
    classes: int
    class_names: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.train.image_shape != self.test.image_shape:
            raise ValueError(
                f"{self.name!r}: train images are {self.train.image_shape} but test images "
                f"{self.test.image_shape}; height, width and channels must agree"
            )
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(
                f"{self.name!r}: class_names has {len(self.class_names)} names, but there are "
                f"{self.classes} classes: give each class one, in the order of the labels"
            )

    def __repr__(self) -> str:
        return f"Dataset({self.summary})"

    @property
    def summary(self) -> str:
        """The set in a line: name, images, classes, splits."""
        names = [] if self.class_names is None else list(self.class_names[:_SHOWN])
        names += ["..."] * (0 < len(names) < self.classes)
        called = f" ({', '.join(names)})" if names else ""
        return (
            f"{self.name}, {size_text(self.image_shape)} pixels, {self.classes} classes{called}, "
            f"{len(self.train):,} train images, {len(self.test):,} test images"
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.train.image_shape

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of every channel of the train images, scaled to [0, 1]. See `std`."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of every channel of the train images, scaled to [0, 1].

        A channel that never changes has 1, so that it can be divided by. Mean and deviation
        are computed when first asked for, exactly, from at most 50,000 images of ``train``
        spread evenly over it. With ``dataclasses.replace(data, train=limit(...))`` they are
        those of the images left.
        """
        return self._statistics[1]

    @functools.cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return statistics(self.train)


def size_text(shape: tuple[int, ...]) -> str:
    """A shape in words: ``32x32x3``."""
    return "x".join(map(str, shape))


def many_sizes(sizes: collections.Counter, shown: int = 4) -> str:
    """Sizes of images with their numbers, the most frequent first: ``2 sizes (8x8: 3, 9x8: 1)``."""
    common = [f"{size_text(size)}: {number:,}" for size, number in sizes.most_common(shown)]
    rest = ", ..." * (len(sizes) > shown)
    return f"{len(sizes):,} sizes ({', '.join(common)}{rest})"


def _amount(images: Source | Split) -> str:
    return f"{len(images):,} images of {size_text(images.image_shape)}"


def absent_classes(
    labels: np.ndarray, classes: int, names: tuple[str, ...] | None = None
) -> str | None:
    """The classes that no label stands for, in words.

    Args:
      labels: integers ``[N]``, each from 0 to `classes` - 1.
      classes: number of classes, however many.
      names: their names, where they have any.

    Returns:
      The first few and how many there are; None where every class has a label.
    """
    present = set(np.unique(labels).tolist())
    missing = classes - len(present)
    if not missing:
        return None
    absent = (label for label in range(classes) if label not in present)
    few = list(itertools.islice(absent, _SHOWN))

    def called(label: int) -> str:
        name = str(label) if names is None else names[label]
        return name if name == str(label) else f"{label} ({name})"

    text = ", ".join(map(called, few))
    return text + (f", ... ({missing} in all)" if missing > len(few) else "")


def check_classes(data: Dataset) -> None:
    """Sees to it that every class has train images.

    Where `limit` took the last images of a class, which is what a quick try may want, it warns.

    Raises:
      ValueError: a class has no images in the whole train split.
    """
    absent = absent_classes(data.train.labels, data.classes, data.class_names)
    if absent is None:
        return
    if len(data.train) < len(data.train.source):
        warnings.warn(
            f"the limit to {len(data.train)} train images leaves none of the classes {absent} of "
            f"{data.name!r}: they cannot be learned, and every test image of them counts as wrong",
            stacklevel=2,
        )
        return
    raise ValueError(
        f"the data set {data.name!r} has no train images of the classes {absent}: number the "
        "classes that there are by names, y = np.unique(data.train.labels, return_inverse=True), "
        "and give the arrays to dnas.data.from_arrays"
    )


def statistics(
    split: Split, count: int = STATISTICS_IMAGES, budget: int = DEVICE_BUDGET
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel of images scaled to [0, 1].

    Args:
      split: the images.
      count: look at so many images at most, spread evenly over the split.
      budget: a split of so many bytes at most is kept in memory, since training will want its
        images too; of a larger one, no more than these bytes are looked at.

    Returns:
      Two tuples of one number per channel. A standard deviation of zero is replaced by one.
    """
    height, width, channels = split.image_shape
    count = max(1, min(len(split), count, budget // (height * width * channels)))
    chosen = np.linspace(0, len(split) - 1, count).astype(np.int64)
    total = np.zeros(channels, np.int64)
    squares = np.zeros(channels, np.int64)
    small = split.nbytes <= budget
    if small:
        images = split.images
    # Blocks keep the sums of bytes and of their squares within 32 bits, where sums are exact
    # and fast.
    blocks = np.array_split(chosen, -(-count // 512))
    for block in blocks if small else bar(blocks, "mean and std", unit="block", delay=2):
        some = images[block] if small else split.source.load(split.indices[block])[0]
        some = some.reshape(len(some), -1)
        total += some.sum(0, dtype=np.uint32).reshape(-1, channels).sum(0, dtype=np.int64)
        some = np.square(some, dtype=np.uint16)
        squares += some.sum(0, dtype=np.uint32).reshape(-1, channels).sum(0, dtype=np.int64)
    number = count * height * width
    mean = total / number
    # The numerator is an exact integer: a constant channel gives zero, not a rounding error.
    variance = [
        (number * int(q) - int(s) ** 2) / number**2 for s, q in zip(total, squares, strict=True)
    ]
    std = np.sqrt(variance)
    return tuple((mean / 255).tolist()), tuple(np.where(std > 0, std / 255, 1.0).tolist())


def limit(split: Split, n: int, seed: int) -> Split:
    """A random subset of `n` images; only these will ever be decoded.

    Args:
      split: the images to choose from.
      n: how many to keep.
      seed: a non-negative integer; the same seed chooses the same images.

    Returns:
      A split of `n` images, in the order that they had.

    Raises:
      ValueError: `n` is no whole number, smaller than 2 or larger than the split.
    """
    checks.whole("n", n, least=0)
    if not 2 <= n <= len(split):
        raise ValueError(
            f"cannot limit the train set to {n} images: it has {len(split)}, so the limit must "
            f"lie between 2 and {len(split)} (or be left out, to use all)"
        )
    chosen = np.sort(np.random.default_rng((seed, _LIMIT)).permutation(len(split))[:n])
    return Split(split.source, split.indices[chosen])


def halve(split: Split, seed: int) -> tuple[Split, Split]:
    """Shuffles a split and cuts it into two disjoint halves.

    Liu et al., "DARTS: Differentiable Architecture Search" (2019), section 3.1: one half of the
    train set trains the weights, the other half the architecture.

    Args:
      split: at least two images.
      seed: a non-negative integer; the same seed makes the same halves.

    Returns:
      The weights' part and the architecture's part; of an odd number of images, the second has
      one more.

    Raises:
      ValueError: there are fewer than two images.
    """
    if len(split) < 2:
        raise ValueError(f"cannot halve {len(split)} image(s): at least 2 are needed")
    order = np.random.default_rng((seed, _HALVE)).permutation(len(split))
    cut = len(split) // 2
    first, second = (
        Split(split.source, split.indices[rows], whole=split, rows=rows)
        for rows in (np.sort(order[:cut]), np.sort(order[cut:]))
    )
    return first, second
