"""Data sets that need no preparation: the embedded digits, and a user's own arrays."""

import numpy as np

from dnas.data.dataset import ArraySource, Dataset, Split


def load(name: str, data_dir: str | None = None) -> Dataset:
    """A data set by name.

    Args:
      name: ``'digits'``, or the name of any image classification set of TensorFlow Datasets
        (``'cifar10'``, ``'mnist'``, ...; see `from_tfds`).
      data_dir: the folder of prepared TensorFlow Datasets.

    Returns:
      The data set.

    Raises:
      ValueError: there is no such set, it is of no use here, or `data_dir` comes with digits.
      FileNotFoundError: the set is not prepared.
    """
    if name != "digits":
        from dnas.data.tfds_source import from_tfds

        return from_tfds(name, data_dir)
    if data_dir is not None:
        raise ValueError(
            f"the data set 'digits' is embedded and reads no data_dir, got {data_dir!r}: leave "
            "data_dir out, or name a data set of TensorFlow Datasets such as 'cifar10'"
        )
    return digits()


def digits() -> Dataset:
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
    return from_arrays(images[train], labels[train], images[test], labels[test], name="digits")


def from_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    name: str = "arrays",
) -> Dataset:
    """A data set of arrays.

    Args:
      x_train: uint8 images ``[N, H, W, C]``, or ``[N, H, W]`` for one channel.
      y_train: integer labels ``[N]``, 0..classes-1.
      x_test: test images, shaped alike.
      y_test: their labels.
      name: what to call the set.

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
    if y_test.max() >= classes:
        raise ValueError(
            f"y_test holds the label {y_test.max()}, but y_train only 0..{classes - 1}: every "
            "class must have train images"
        )
    train, test = ArraySource(x_train, y_train), ArraySource(x_test, y_test)
    return Dataset(name, Split.all(train), Split.all(test), classes)


def _images(name: str, images: np.ndarray) -> np.ndarray:
    """Checks images and gives them a channel axis."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        advice = "cast them to uint8, 0..255"
        if np.issubdtype(images.dtype, np.floating):
            advice = "images in [0, 1] become uint8 by np.rint(255 * x).astype(np.uint8)"
        raise ValueError(f"{name} must be uint8, got {images.dtype}: {advice}")
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


def _labels(name: str, labels: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Checks labels against their images and makes them int32."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        advice = "labels are integers 0..classes-1, one an image"
        if labels.ndim == 2 and labels.shape[1] == 1:
            advice += "; drop the last axis: y[:, 0]"
        elif labels.ndim == 2:
            advice += "; one-hot rows become numbers by y.argmax(axis=1)"
        raise ValueError(
            f"{name} must be an integer array [images], got {labels.dtype} of shape "
            f"{list(labels.shape)}: {advice}"
        )
    if len(labels) != len(images):
        raise ValueError(f"{name} has {len(labels)} labels, but there are {len(images)} images")
    if labels.min() < 0:
        raise ValueError(f"{name} holds the label {labels.min()}: labels are 0..classes-1")
    return labels.astype(np.int32)
