"""Images whose pixels are labelled: a data set of them, of one's own arrays."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dnas.data.arrays import array_of, images_of, names_of, read_npz
from dnas.data.dataset import ArraySource, Split, size_text
from dnas.data.images import Images, absent_classes
from dnas.tasks import Augment
from dnas.tasks.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentedImages(Images):
    """A set of images with a label for each pixel; see `dnas.data.images.Images`.

    Splits hold ``image``, uint8 ``[N, H, W, C]``, and ``labels``, uint8 ``[N, H, W]``. Labels from
    `classes` on are void.
    """

    def __repr__(self) -> str:
        return f"SegmentedImages({self.summary})"

    @property
    def summary(self) -> str:
        """The set in a line: name, size, classes, splits."""
        return (
            f"{self.name}, {size_text(self.image_shape)} pixels of {self.classes} classes, "
            f"{len(self.train):,} train images, {len(self.test):,} test images"
        )

    def task(self, augment: Augment | None = None, *, measured: bool = True) -> Segmentation:
        """See `dnas.data.Dataset.task`."""
        return self.task_of(Segmentation, augment, measured)

    def check(self) -> None:
        """Raises ValueError where a class is nowhere in the train images."""
        found = np.unique(self.train.column("labels"))
        present = found[found < self.classes]
        if (absent := absent_classes(present, self.classes, self.class_names)) is not None:
            raise ValueError(
                f"no train image of {self.name!r} has a pixel of the classes {absent}: they cannot "
                "be learned; use more images, or number the classes that there are"
            )


def from_segmented_npz(path: str | os.PathLike, void: int | None = None) -> SegmentedImages:
    """A data set of labelled pixels in a NumPy archive.

    Args:
      path: an ``.npz`` file with the arrays of `from_segmented_arrays`, and `class_names` if it has
        them; ``test_x`` and the like are read, too. Others are not read.
      void: labels from this one on are of no class.

    Returns:
      The data set; its name is the file's without the ending.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such archive, lacks an array, or an array is not as it must be.
    """
    return read_npz(path, functools.partial(from_segmented_arrays, void=void))


def from_segmented_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    name: str = "segmented",
    class_names: Sequence[str] | None = None,
    void: int | None = None,
) -> SegmentedImages:
    """A data set of images and of labels of their pixels.

    Args:
      x_train: uint8 images ``[N, H, W, C]``, or ``[N, H, W]`` for one channel.
      y_train: integer labels ``[N, H, W]``, 0..classes-1, or void.
      x_test: test images, shaped alike.
      y_test: the labels of their pixels.
      name: what to call the set.
      class_names: names of the classes in the order of the labels, if they have any.
      void: labels from this one on are of no class; by default 255 and negative ones are.

    Returns:
      The data set; it has as many classes as the largest train label that is not void says.

    Raises:
      ValueError: an array has the wrong type, shape or values; the message says which.
    """
    splits = []
    for images, labels, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        images = images_of(f"x_{part}", images)
        labels = _pixel_labels(f"y_{part}", labels, images, void)
        splits.append((images, labels))
    known, unknown = (labels[labels < 255] for _, labels in splits)
    classes = int(known.max()) + 1 if known.size else 0
    if classes < 2:
        raise ValueError(f"y_train holds {classes} classes: expected two or more")
    if unknown.size and unknown.max() >= classes:
        raise ValueError(
            f"y_test holds the label {unknown.max()}, but y_train only 0..{classes - 1}: every "
            "class must have train images; void labels are named by void="
        )
    train, test = (
        Split.all(ArraySource({"image": images, "labels": labels})) for images, labels in splits
    )
    if train.image_shape != test.image_shape:
        raise ValueError(
            f"x_train holds images of {size_text(train.image_shape)} but x_test of "
            f"{size_text(test.image_shape)}; height, width and channels must agree"
        )
    names = None if class_names is None else names_of(class_names)
    if names is not None and len(names) != classes:
        raise ValueError(f"class_names has {len(names)} names, but there are {classes} classes")
    return SegmentedImages(name, train, test, classes, names)


def _pixel_labels(name: str, labels: Any, images: np.ndarray, void: int | None) -> np.ndarray:
    """Labels as uint8, 255 where they are void."""
    labels = array_of(name, labels)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:3]:
        raise ValueError(
            f"{name} must be an integer array {list(images.shape[:3])}, a label for each pixel, "
            f"got {labels.dtype} of shape {list(labels.shape)}"
        )
    nothing = (labels < 0) | (labels == 255)
    if void is not None:
        nothing |= labels >= void
    if (labels[~nothing] > 254).any():
        raise ValueError(f"{name} holds labels above 255; expected at most 255 classes")
    return np.where(nothing, 255, labels).astype(np.uint8)
