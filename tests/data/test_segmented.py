"""Images with labelled pixels: own arrays, archives, CamVid."""

import numpy as np
import pytest

from dnas import data as datasets
from dnas.data import from_segmented_arrays, load

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, (4, 6, 8))
ARRAYS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:2], "y_test": LABELS[:2]}


def test_labels_are_bytes_with_one_number_for_void():
    data = from_segmented_arrays(**ARRAYS, void=3, class_names=["a", "b", "c"])
    assert data.classes == 3 and data.image_shape == (6, 8, 3)
    labels = data.train.arrays["labels"]
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.where(LABELS == 3, 255, LABELS))
    assert from_segmented_arrays(**ARRAYS).classes == 4
    negative = from_segmented_arrays(**(ARRAYS | {"y_train": np.where(LABELS == 0, -1, LABELS)}))
    assert (negative.train.arrays["labels"] == 255).sum() == (LABELS == 0).sum()
    with pytest.raises(ValueError, match=r"no train image of 'segmented' .* classes 0"):
        negative.check()
    data.check()
    assert "segmented, 6x8x3 pixels of 3 classes, 4 train images, 2 test images" in repr(data)


def test_the_task_knows_statistics_and_names():
    data = from_segmented_arrays(**ARRAYS, class_names=list("abcd"))
    task = data.task(datasets.Augment(flip=True))
    np.testing.assert_allclose(task.mean, IMAGES.mean((0, 1, 2)) / 255)
    assert task.class_names == ("a", "b", "c", "d") and task.augment.flip
    assert data.task(measured=False).mean is None
    assert set(data.train.examples) == set(task.examples)


@pytest.mark.parametrize("turned", [False, True])
def test_an_archive_is_its_arrays(tmp_path, turned):
    names = {k: "_".join(reversed(k.split("_"))) if turned else k for k in ARRAYS}
    np.savez(tmp_path / "own.npz", **{names[k]: x for k, x in ARRAYS.items()}, more=[1])
    data = load("segmented", path=str(tmp_path / "own.npz"), void=3)
    assert (data.name, data.classes) == ("own", 3)
    np.testing.assert_array_equal(data.test.images, IMAGES[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": LABELS[:3]}, r"y_train must be an integer array \[4, 6, 8\].*\[3, 6, 8\]"),
        ({"y_train": LABELS / 2}, "y_train must be an integer array .* got float64"),
        ({"y_train": LABELS * 0}, "y_train holds 1 classes: expected two or more"),
        ({"y_test": LABELS[:2] + 4}, "y_test holds the label 7, but y_train only 0..3"),
        ({"y_test": LABELS[:2] + 300}, "y_test holds labels above 255"),
        ({"x_train": IMAGES / 2}, "x_train must be uint8, got float64"),
        ({"x_test": IMAGES[:2, ..., :1]}, "x_train holds images of 6x8x3 but x_test of 6x8x1"),
        ({"class_names": ["a"]}, "class_names has 1 names, but there are 4 classes"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_segmented_arrays(**(ARRAYS | change))


def test_camvid(shared_data):
    """The official split; 11 classes, of which the road is the largest."""
    data = load("segmented", path=str(shared_data / "camvid" / "camvid_96x128.npz"), void=11)
    assert (len(data.train), len(data.test), data.classes) == (367, 233, 11)
    assert data.image_shape == (96, 128, 3)
    data.check()
    labels = data.train.arrays["labels"]
    counts = np.bincount(labels.ravel(), minlength=256)
    assert counts.sum() == counts[:11].sum() + counts[255] and counts[:11].argmax() == 3
