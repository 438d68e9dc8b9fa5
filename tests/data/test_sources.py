"""The embedded digits and users' own arrays."""

import numpy as np
import pytest

from dnas.data import digits, from_arrays, load

IMAGES = np.zeros((4, 5, 6, 3), np.uint8)
LABELS = np.array([0, 1, 2, 1])


def test_digits_are_fixed_and_stratified():
    data = digits()
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert (data.image_shape, data.classes) == ((8, 8, 1), 10)
    assert data.train.images.dtype == np.uint8
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)
    for split in (data.train, data.test):
        share = np.bincount(split.labels) / len(split)
        np.testing.assert_allclose(share, 0.1, atol=0.004)
    np.testing.assert_array_equal(data.test.images, load("digits").test.images)


def test_digits_are_sklearns_and_every_one_is_used_once():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = digits()
    rows = lambda images, labels: sorted(  # noqa: E731
        (label, *row) for row, label in zip(images.reshape(len(images), -1), labels, strict=True)
    )
    found = rows(
        np.concatenate([data.train.images, data.test.images]) / 255 * 16,
        np.concatenate([data.train.labels, data.test.labels]),
    )
    np.testing.assert_allclose(found, rows(pixels, labels), atol=16 / 255 / 2 + 1e-9)


def test_digits_read_no_folder():
    with pytest.raises(ValueError, match=r"data_dir.*'/somewhere'"):
        load("digits", "/somewhere")


def test_arrays_become_a_dataset():
    train = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    data = from_arrays(train, LABELS.astype(np.int64), train[:2], LABELS[:2].astype(np.uint8))
    assert (data.name, data.image_shape, data.classes) == ("arrays", (5, 6, 1), 3)
    np.testing.assert_array_equal(data.train.images[..., 0], train)
    assert data.train.labels.dtype == data.test.labels.dtype == np.int32
    assert np.shares_memory(data.train.images, train), "a large set must not be copied"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": IMAGES / 255}, r"x_train must be uint8, got float64.*255 \* x"),
        ({"x_test": IMAGES.astype(np.int32)}, "x_test must be uint8, got int32"),
        ({"x_train": IMAGES[0, 0]}, r"x_train must have the shape.*\[6, 3\]"),
        ({"x_train": IMAGES[:0]}, r"not be empty.*\[0, 5, 6, 3\]"),
        ({"x_train": np.zeros((4, 3, 8, 8), np.uint8)}, "channels come last"),
        ({"y_train": LABELS[:3]}, "y_train has 3 labels, but there are 4 images"),
        ({"y_train": LABELS / 1}, "y_train must be an integer.*float64"),
        ({"y_test": np.eye(3, dtype=int)[LABELS]}, "y_test.*argmax"),
        ({"y_test": LABELS[:, None]}, r"y_test.*y\[:, 0\]"),
        ({"y_train": LABELS - 1}, "y_train holds the label -1"),
        ({"y_test": LABELS + 1}, r"y_test holds the label 3, but y_train only 0..2"),
        ({"y_train": LABELS * 0, "y_test": LABELS * 0}, "one class only"),
        ({"x_test": IMAGES[:, :4]}, r"\(5, 6, 3\).*\(4, 6, 3\)"),
    ],
)
def test_wrong_arrays_are_refused_by_name(change, message):
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
    with pytest.raises(ValueError, match=message):
        from_arrays(**(arrays | change))
