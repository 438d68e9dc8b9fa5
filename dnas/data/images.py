"""Labelled images: a data set of them, their classes, mean and standard deviation."""

import collections
import dataclasses
import functools
import itertools
import warnings
from typing import Any, TypeVar

import jax
import numpy as np

from dnas.data.batched import Batched
from dnas.data.dataset import DEVICE_BUDGET, Examples, Split, describe_split, size_text
from dnas.data.decoding import bar
from dnas.tasks import Augment, Classification
from dnas.tasks.images import ImageTask

Kind = TypeVar("Kind", bound=ImageTask)
STATISTICS_IMAGES = 50_000  # Images from which mean and standard deviation are computed.
_SHOWN = 5  # classes that a line names


@dataclasses.dataclass(frozen=True, eq=False)
class Images(Batched):
    """A set of images and classes for training and testing.

    Attributes:
      name: the set's name.
      train: what search and training may use.
      test: what only the final evaluation of a trained network may use.
      classes: number of classes; labels are 0..classes-1.
      class_names: their names, in the order of the labels; None where they have none.
    """

    classes: int
    class_names: tuple[str, ...] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.train.image_shape

    @functools.cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return statistics(self.train)

    def task_of(self, kind: type[Kind], augment: Augment | None, measured: bool) -> Kind:
        """The task of that kind; see `dnas.data.Dataset.task`."""
        mean, std = self._statistics if measured else (None, None)
        how = augment or Augment()
        return kind(self.image_shape, self.classes, mean, std, how, self.class_names)

    def describe(self) -> dict[str, Any]:
        """See `dnas.data.Dataset.describe`."""
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "classes": self.classes,
            "train": describe_split(self.train),
            "test": describe_split(self.test),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages(Images):
    """A set of images, each of one class; see `Images`."""

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
        return f"LabelledImages({self.summary})"

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

    def task(self, augment: Augment | None = None, *, measured: bool = True) -> Classification:
        """See `dnas.data.Dataset.task`."""
        return self.task_of(Classification, augment, measured)

    def check(self) -> None:
        """Raises ValueError where a class has no train images; see `check_classes`."""
        check_classes(self)


def many_sizes(sizes: collections.Counter, shown: int = 4) -> str:
    """Sizes of images with their numbers, the most frequent first: ``2 sizes (8x8: 3, 9x8: 1)``."""
    common = [f"{size_text(size)}: {number:,}" for size, number in sizes.most_common(shown)]
    rest = ", ..." * (len(sizes) > shown)
    return f"{len(sizes):,} sizes ({', '.join(common)}{rest})"


def image_examples(shape: tuple[int, int, int]) -> Examples:
    """An image of bytes and its label."""
    image = jax.ShapeDtypeStruct(shape, np.uint8)
    return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}


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


def check_classes(data: LabelledImages) -> None:
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
        some = images[block] if small else split.source.load(split.indices[block])["image"]
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
