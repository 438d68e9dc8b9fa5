"""Data sets that need no preparation: the embedded digits, and a user's own arrays."""

import os
from collections.abc import Sequence

import numpy as np

from dnas.data.arrays import images_of, labels_of, names_of, read_npz
from dnas.data.dataset import ArraySource, Split
from dnas.data.images import LabelledImages, absent_classes

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def digits() -> LabelledImages:
    """Scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes.

    Real data that needs no download. The split into 1,437 train and 360 test images is
    stratified and always the same, whatever the seed of a run.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # The original has 17 grey levels, 0..16.
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(images)), test_size=360, stratify=labels, random_state=0
    )
    names = [str(digit) for digit in range(10)]
    return from_arrays(
        images[train], labels[train], images[test], labels[test], "digits", class_names=names
    )


def from_npz(path: str | os.PathLike) -> LabelledImages:
    """A data set of a NumPy archive.

    Args:
      path: an ``.npz`` file with the arrays `x_train`, `y_train`, `x_test` and `y_test` of
        `from_arrays`, and `class_names` if it has them; others are not read. Pickled objects
        are refused.

    Returns:
      The data set; its name is the file's without the ending.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such archive, lacks an array, or an array is not as it must be.
    """
    return read_npz(path, from_arrays)


def from_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
) -> LabelledImages:
    """A data set of arrays.

    Args:
      x_train: uint8 images ``[N, H, W, C]``, or ``[N, H, W]`` for one channel.
      y_train: integer labels ``[N]``, 0..classes-1, each of them at least once.
      x_test: test images, shaped alike.
      y_test: their labels.
      name: what to call the set.
      class_names: names of the classes in the order of the labels, if they have any.

    Returns:
      The data set; it has as many classes as the largest train label says.

    Raises:
      ValueError: an array has the wrong type, shape or values; the message says which.
    """
    x_train, x_test = images_of("x_train", x_train), images_of("x_test", x_test)
    y_train, y_test = labels_of("y_train", y_train, x_train), labels_of("y_test", y_test, x_test)
    classes = int(y_train.max()) + 1
    if classes < 2:
        raise ValueError("y_train holds one class only (0): there is nothing to classify")
    if (absent := absent_classes(y_train, classes)) is not None:
        raise ValueError(
            f"y_train goes up to {classes - 1} and lacks the labels {absent}: every class must "
            "have train images; number those that there are by names, y = np.unique("
            "np.concatenate([y_train, y_test]), return_inverse=True), train labels first"
        )
    if y_test.max() >= classes:
        raise ValueError(
            f"y_test holds the label {y_test.max()}, but y_train only 0..{classes - 1}: every "
            "class must have train images"
        )
    train, test = (
        Split.all(ArraySource({"image": images, "label": labels.astype(np.int32)}))
        for images, labels in ((x_train, y_train), (x_test, y_test))
    )
    names = None if class_names is None else names_of(class_names)
    return LabelledImages(name, train, test, classes, names)
