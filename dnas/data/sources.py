"""Data sets that need no preparation: the embedded digits, and a user's own arrays."""

import collections
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dnas.checks import shown
from dnas.data.dataset import ArraySource, Split
from dnas.data.images import LabelledImages, absent_classes, many_sizes

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
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip file")
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            missing = [key for key in _ARRAYS if key not in found]
            arrays = {k: archive[k] for k in (*_ARRAYS, "class_names") if k in found}
    except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"path={str(path)!r} is no .npz archive of plain arrays, as np.savez(path, "
            f"x_train=..., y_train=..., x_test=..., y_test=...) writes one: {error}"
        ) from error
    if missing:
        raise ValueError(
            f"path={str(path)!r} lacks {', '.join(missing)}; it must hold {', '.join(_ARRAYS)}, "
            f"and holds {', '.join(found) or 'nothing'}"
        )
    names = arrays.pop("class_names", None)
    if names is not None:
        names = names.tolist()
    try:
        return from_arrays(**arrays, name=path.stem, class_names=names)
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error


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
    x_train, x_test = _images("x_train", x_train), _images("x_test", x_test)
    y_train, y_test = _labels("y_train", y_train, x_train), _labels("y_test", y_test, x_test)
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
    names = None if class_names is None else _names(class_names)
    return LabelledImages(name, train, test, classes, names)


def _names(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of texts, one a class, got {shown(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"class_names must differ from each other, got {shown(names)}")
    return tuple(names)


def _array(name: str, values: Any) -> np.ndarray:
    """Values as an array that says all there is."""
    if np.ma.isMaskedArray(values):
        raise ValueError(f"{name} is masked, which nothing here heeds: drop what is masked first")
    try:
        return np.asarray(values)
    except Exception as error:  # of whatever kind: it is the object's own
        got = shown(type(values).__name__)
        raise ValueError(f"{name}: expected an array, got {got}: {shown(str(error))}") from error


def _images(name: str, images: Any) -> np.ndarray:
    """Checks images and gives them a channel axis."""
    if isinstance(images, list | tuple):
        images = _stacked(name, images)
    images = _array(name, images)
    if images.dtype == object and images.ndim:
        images = _stacked(name, images)
    if images.dtype != np.uint8 and images.size:
        raise ValueError(f"{name} must be uint8, got {images.dtype}: {_cast_advice(images)}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{name} must have the shape [images, height, width, channels], or [images, height, "
            f"width] for one channel, and not be empty; got {list(images.shape)}"
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise ValueError(
            f"{name} of shape {list(images.shape)} looks like [images, channels, height, width]; "
            "channels come last here: np.moveaxis(x, 1, -1)"
        )
    return images


def _stacked(name: str, images: Any) -> np.ndarray:
    """Single images, which must be of one size, as one array."""
    images = [_array(name, image) for image in images]
    sizes = collections.Counter(image.shape for image in images)
    if len(sizes) > 1:
        found = many_sizes(sizes)
        raise ValueError(
            f"{name} holds images of {found}: resize them to one, as by cv2.resize(image, (32, "
            "32), interpolation=cv2.INTER_AREA), or let dnas.data.from_folder(path, size=32) do it"
        )
    return np.stack(images) if images else np.empty(0, np.uint8)


def _cast_advice(images: np.ndarray) -> str:
    """How to make uint8 of images of another type."""
    kind = images.dtype.kind
    if kind == "f" and not np.isfinite(images).all():
        return "some pixels are NaN or infinite; mend or drop those images first"
    if kind == "f" and images.min() >= 0 and images.max() <= 1:
        return "images in [0, 1] become uint8 by np.rint(255 * x).astype(np.uint8)"
    if kind in "fiu" and images.min() >= 0 and images.max() <= 255:
        return "images in 0..255 become uint8 by np.rint(x).astype(np.uint8)"
    if kind in "fiu":
        return (
            f"their values go from {images.min():.4g} to {images.max():.4g}; bring them to 0..255 "
            "and cast them to uint8"
        )
    return "images are numbers 0..255; cast them to uint8"


def _labels(name: str, labels: Any, images: np.ndarray) -> np.ndarray:
    """Checks labels against their images."""
    labels = _array(name, labels)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        advice = "labels are integers 0..classes-1, one an image"
        if labels.ndim == 2 and labels.shape[1] == 1:
            advice += "; drop the last axis: y[:, 0]"
        elif labels.ndim == 2:
            advice += "; one-hot rows become numbers by y.argmax(axis=1)"
        elif labels.dtype.kind in "bf":
            advice += "; classes written in another type become numbers by y.astype(np.int32)"
        else:
            advice += "; classes become numbers by names, y = np.unique(y, return_inverse=True)"
        raise ValueError(
            f"{name} must be an integer array [images], got {labels.dtype} of shape "
            f"{list(labels.shape)}: {advice}"
        )
    if len(labels) != len(images):
        raise ValueError(f"{name} has {len(labels)} labels, but there are {len(images)} images")
    if labels.min() < 0:
        raise ValueError(
            f"{name} holds the label {labels.min()}: labels are 0..classes-1; images without a "
            "label are of no use here"
        )
    return labels
