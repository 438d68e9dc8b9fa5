"""Smaller images."""

import dataclasses

import numpy as np
import pytest

from dnas import data


def test_pooling_averages_squares():
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    images[0, 0, 0] = 255
    whole = data.from_arrays(images, np.array([1, 0]), images[:1], np.array([1]))
    whole = dataclasses.replace(whole, train=data.Split(whole.train.source, np.array([1, 0])))
    small = data.pooled(whole, 2)
    assert small.image_shape == (2, 2, 1) and small.train.labels.tolist() == [0, 1]
    # The second image starts at 16: its first square is 16, 17, 20, 21.
    assert small.train.images[0, ..., 0].tolist() == [[18, 20], [26, 28]]  # 18.5 rounds to even
    assert small.train.images[1, 0, 0, 0] == round((255 + 1 + 4 + 5) / 4)
    np.testing.assert_array_equal(small.test.images, small.train.images[1:])
    source = small.train.source
    np.testing.assert_array_equal(source.read(np.array([1]))["image"][0], small.train.images[0])
    assert data.pooled(whole, 1) is whole


def test_a_set_is_loaded_with_smaller_images():
    small, expected = data.load("digits", pool=2), data.pooled(data.digits(), 2)
    assert small.image_shape == (4, 4, 1) and small.describe() == expected.describe()
    with pytest.raises(ValueError, match="pool=0"):
        data.load("digits", pool=0)


@pytest.mark.parametrize("pool", [3, 0, 8])
def test_squares_must_fit(pool):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    whole = data.from_arrays(images, np.array([1, 0]), images, np.array([1, 0]))
    with pytest.raises(ValueError, match=f"pool={pool}"):
        data.pooled(whole, pool)


def test_labels_of_pixels_are_those_in_the_middle():
    labels = np.arange(2 * 4 * 6).reshape(2, 4, 6) % 5
    images = np.repeat(labels[..., None], 3, -1).astype(np.uint8)
    small = data.pooled(data.from_segmented_arrays(images, labels, images, labels), 2)
    assert small.train.examples["labels"].shape == (2, 3) and small.image_shape == (2, 3, 3)
    expected = labels[:, 1::2, 1::2]
    np.testing.assert_array_equal(small.train.arrays["labels"], expected)
    np.testing.assert_array_equal(small.test.column("labels"), expected)
    assert small.task().mean[0] == pytest.approx(images.mean() / 255, abs=0.01)
