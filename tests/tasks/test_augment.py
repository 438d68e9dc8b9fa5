"""Augmentation against arrays computed by hand or by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.data import Augment, normalise, preprocess
from dnas.tasks.augment import crop, cutout, flip


def numbered(batch, height, width, channels):
    """Images in which no two pixels are equal, none black."""
    image = 1 + np.arange(height * width * channels, dtype=np.uint8)
    return np.tile(image.reshape(1, height, width, channels), (batch, 1, 1, 1))


def run(augment, key, images):
    """Preprocessed and scaled back to bytes, so that positions can be recognised."""
    channels = images.shape[-1]
    apply = jax.jit(preprocess(augment, (0.0,) * channels, (1.0,) * channels))
    return np.rint(np.asarray(apply(key, images)) * 255).astype(int)


def reference_crop(image, top, left, padding):
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return padded[top : top + image.shape[0], left : left + image.shape[1]]


def reference_cutout(height, width, y, x, length):
    """The mask of DARTS' transform (utils.py, class Cutout); True where it cuts."""
    mask = np.zeros((height, width), bool)
    y1, y2 = np.clip([y - length // 2, y + length // 2], 0, height)
    x1, x2 = np.clip([x - length // 2, x + length // 2], 0, width)
    mask[y1:y2, x1:x2] = True
    return mask


def test_crop_by_hand():
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None]
    cut = lambda *offset: np.asarray(crop(image, jnp.array(offset), 1))[..., 0].tolist()  # noqa: E731
    assert cut(0, 0) == [[0, 0, 0], [0, 1, 2]]
    assert cut(1, 1) == [[1, 2, 3], [4, 5, 6]]
    assert cut(2, 1) == [[4, 5, 6], [0, 0, 0]]
    assert cut(1, 2) == [[2, 3, 0], [5, 6, 0]]


def test_flip_by_hand():
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None]
    assert flip(image, True)[..., 0].tolist() == [[3, 2, 1], [6, 5, 4]]
    assert flip(image, False)[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_cutout_by_hand():
    image = np.ones((3, 4, 1), np.float32)
    hole = lambda centre, n: np.asarray(cutout(image, jnp.array(centre), n))[..., 0].tolist()  # noqa: E731
    assert hole((1, 2), 2) == [[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert hole((0, 0), 2) == [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert hole((2, 3), 2) == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert hole((1, 1), 3) == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_normalise_closed_form():
    images = np.array([[[[0, 255], [51, 102]]]], np.uint8)
    mean, std = (0.5, 0.25), (0.5, 0.125)
    expected = [[[[-1.0, 6.0], [-0.6, 1.2]]]]
    found = normalise(images, mean, std)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 8, 3), (7, 5, 1)])
def test_every_image_gets_its_own_crop_and_flip_from_the_full_range(shape):
    batch, padding = 512, 2
    images = numbered(batch, *shape)
    found = run(Augment(crop_padding=padding, flip=True), jax.random.key(3), images)
    offsets = range(2 * padding + 1)
    candidates = {}
    for top in offsets:
        for left in offsets:
            plain = reference_crop(images[0], top, left, padding)
            candidates[plain.tobytes()] = (top, left, False)
            candidates[plain[:, ::-1].tobytes()] = (top, left, True)
    drawn = [candidates[image.astype(np.uint8).tobytes()] for image in found]
    counts = np.zeros((len(offsets), len(offsets), 2), int)
    np.add.at(counts, tuple(np.array(drawn).T), 1)
    assert (counts > 0).all(), "50 combinations, about 10 of each expected"
    assert counts.max() < 40
    assert 200 < counts[..., 1].sum() < 312


def test_cutout_is_a_clipped_square_with_its_centre_anywhere():
    height, width, length = 4, 6, 4
    images = numbered(600, height, width, 1)
    found = run(Augment(cutout=length), jax.random.key(0), images)
    cut = (found == 0)[..., 0]
    expected = {
        reference_cutout(height, width, y, x, length).tobytes()
        for y in range(height)
        for x in range(width)
    }
    assert {mask.tobytes() for mask in cut} == expected
    np.testing.assert_array_equal(found[~cut], images[~cut])


def test_cutout_sets_the_mean_colour_after_normalising():
    images = np.full((4, 6, 6, 2), 200, np.uint8)
    apply = preprocess(Augment(cutout=2), (0.2, 0.3), (0.5, 0.25))
    found = np.asarray(apply(jax.random.key(0), images))
    values = [(200 / 255 - 0.2) / 0.5, (200 / 255 - 0.3) / 0.25]
    for channel, value in enumerate(values):
        assert set(np.unique(found[..., channel].round(4))) == {0, np.float32(round(value, 4))}


def test_padding_is_black_before_normalising():
    images = np.full((64, 4, 4, 1), 255, np.uint8)
    found = preprocess(Augment(crop_padding=1), (0.5,), (0.5,))(jax.random.key(0), images)
    np.testing.assert_allclose(np.unique(found), [-1, 1], atol=1e-6)


def test_key_decides_and_nothing_else_does():
    images = numbered(16, 8, 8, 1)
    augment = Augment(crop_padding=2, flip=True, cutout=2)
    first, again, other = (run(augment, jax.random.key(k), images) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(run(Augment(), jax.random.key(0), images), images)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"crop_padding": -1}, "crop_padding.*-1"),
        ({"cutout": 2.5}, "cutout.*2.5"),
        ({"flip": 1}, "flip=1.*True or False"),
        ({"crop_padding": 4}, "crop_padding.*4.*4x9"),
        ({"cutout": 5}, "cutout.*5.*4x9"),
    ],
)
def test_impossible_settings_are_refused_by_name(augment, message):
    with pytest.raises(ValueError, match=message):
        run(Augment(**augment), jax.random.key(0), np.zeros((2, 4, 9, 1), np.uint8))


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"3 channels.*mean has 1"):
        normalise(np.zeros((1, 2, 2, 3), np.uint8), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="float32"):
        normalise(np.zeros((1, 2, 2, 1), np.float32), (0.5,), (0.5,))
