"""Arrays that a user gives: checks that say what to do, and archives of them."""

import collections
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from dnas.checks import shown
from dnas.data.dataset import Dataset
from dnas.data.images import many_sizes

Kind = TypeVar("Kind", bound=Dataset)
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_NAMES = "class_names"


def read_npz(path: str | os.PathLike, make: Callable[..., Kind]) -> Kind:
    """A data set of a NumPy archive.

    Args:
      path: an ``.npz`` file with the arrays `x_train`, `y_train`, `x_test` and `y_test`, which may
        be called ``train_x`` and so on, and `class_names` if it has them.
      make: makes the data set of these arrays, a `name` and `class_names`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such archive, lacks an array, or `make` refuses one.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip file")
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            spellings = {key: (_turned(key), key) for key in _ARRAYS} | {_NAMES: (_NAMES,)}
            arrays = {k: archive[s] for k, every in spellings.items() for s in every if s in found}
    except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"path={str(path)!r} is no .npz archive of plain arrays, as np.savez(path, "
            f"x_train=..., y_train=..., x_test=..., y_test=...) writes one: {error}"
        ) from error
    if missing := [key for key in _ARRAYS if key not in arrays]:
        raise ValueError(
            f"path={str(path)!r} lacks {', '.join(missing)}; it must hold {', '.join(_ARRAYS)}, "
            f"and holds {', '.join(found) or 'nothing'}"
        )
    names = arrays.pop(_NAMES, None)
    if names is not None:
        names = names.tolist()
    try:
        return make(**arrays, name=path.stem, class_names=names)
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error


def _turned(key: str) -> str:
    """``train_x`` for ``x_train``, and the other way round."""
    return "_".join(reversed(key.split("_")))


def names_of(names: Sequence[str]) -> tuple[str, ...]:
    """Checks names of classes."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of texts, one a class, got {shown(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"class_names must differ from each other, got {shown(names)}")
    return tuple(names)


def array_of(name: str, values: Any) -> np.ndarray:
    """Values as an array that says all there is."""
    if np.ma.isMaskedArray(values):
        raise ValueError(f"{name} is masked, which nothing here heeds: drop what is masked first")
    try:
        return np.asarray(values)
    except Exception as error:  # of whatever kind: it is the object's own
        got = shown(type(values).__name__)
        raise ValueError(f"{name}: expected an array, got {got}: {shown(str(error))}") from error


def images_of(name: str, images: Any) -> np.ndarray:
    """Checks images and gives them a channel axis."""
    if isinstance(images, list | tuple):
        images = _stacked(name, images)
    images = array_of(name, images)
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
    images = [array_of(name, image) for image in images]
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


def labels_of(name: str, labels: Any, images: np.ndarray) -> np.ndarray:
    """Checks labels against their images."""
    labels = array_of(name, labels)
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
