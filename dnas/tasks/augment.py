"""From uint8 images to what a network reads: crop, flip, normalise, cutout.

All of it runs inside a jitted step, from the step's key. What is random is drawn for a whole
batch at once, one number an image; what is done to one image is a plain function of that
image and its numbers, mapped over the batch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas import checks


@dataclasses.dataclass(frozen=True)
class Augment:
    """What is done to train images; by default nothing. Every image gets its own.

    DARTS' setting for CIFAR-10 is ``Augment(crop_padding=4, flip=True, cutout=16)``, without
    cutout while searching.

    Attributes:
      crop_padding: pad with so many black pixels on every side and crop a random window of the
        original size; 0 for none.
      flip: mirror left and right with probability 1/2.
      cutout: side of a square, centred anywhere in the image and clipped at its border, that is
        set to the mean colour (DeVries and Taylor, 2017, arXiv:1708.04552); 0 for none.

    Raises:
      ValueError: `crop_padding` or `cutout` is not a whole number from 0, or `flip` no truth value.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self):
        for name in ("crop_padding", "cutout"):
            checks.whole(name, getattr(self, name), least=0)
        checks.true_or_false("flip", self.flip)


NOTHING = Augment()


def preprocess(augment: Augment, mean: Sequence[float], std: Sequence[float]) -> Callable[..., Any]:
    """Makes the function that augments and normalises a batch, in DARTS' order.

    Crop and flip work on bytes, so the padding is black; cutout comes after normalisation, so
    what it cuts out is the mean colour.

    What else is said of pixels can be moved with them, by crop and flip: maps ``[batch, H, W]``,
    whose padding is zero. Cutout leaves maps as they are: it hides pixels, and does not change what
    they belong to.

    Args:
      augment: what to do; ``Augment()`` only normalises.
      mean: one number per channel, of images scaled to [0, 1].
      std: likewise.

    Returns:
      A function ``(key, images)`` from uint8 ``[batch, H, W, C]`` to float32 of that shape; given
      a map, ``(key, images, maps)``, it returns images and maps. It raises ValueError, when
      traced, for images that are too small for these settings or have another number of channels
      than `mean` and `std`.
    """
    padding, length = augment.crop_padding, augment.cutout

    def apply(key: jax.Array, images: jax.Array, maps: jax.Array | None = None) -> Any:
        batch, height, width, _ = images.shape
        if padding >= min(height, width):
            raise ValueError(
                f"crop_padding must be smaller than the images' height and width, got {padding} "
                f"for {height}x{width} images: a crop could be all black"
            )
        if length > min(height, width):
            raise ValueError(
                f"cutout must not exceed the images' height and width, got {length} for "
                f"{height}x{width} images"
            )
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        if padding:
            offsets = jax.random.randint(crop_key, (batch, 2), 0, 2 * padding + 1)
            images = jax.vmap(crop, (0, 0, None))(images, offsets, padding)
            if maps is not None:
                maps = jax.vmap(crop, (0, 0, None))(maps[..., None], offsets, padding)[..., 0]
        if augment.flip:
            mirrored = jax.random.bernoulli(flip_key, shape=(batch,))
            images = jax.vmap(flip)(images, mirrored)
            if maps is not None:
                maps = jax.vmap(flip)(maps, mirrored)
        images = normalise(images, mean, std)
        if length:
            sides = jnp.array([height, width])
            centres = jax.random.randint(cutout_key, (batch, 2), 0, sides)
            images = jax.vmap(cutout, (0, 0, None))(images, centres, length)
        return images if maps is None else (images, maps)

    return apply


def crop(image: jax.Array, offset: jax.Array, padding: int) -> jax.Array:
    """A window of the image's own size, from the image with a black border.

    Args:
      image: ``[H, W, C]``.
      offset: int ``[2]``, the window's first row and column in the padded image, 0..2*padding.
      padding: width of the border.

    Returns:
      The window, ``[H, W, C]``; offset ``[padding, padding]`` gives the image itself.
    """
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), image.shape)


def flip(image: jax.Array, mirrored: jax.Array) -> jax.Array:
    """The image ``[H, W, ...]``, left and right exchanged where `mirrored` is true."""
    return jnp.where(mirrored, image[:, ::-1], image)


def cutout(image: jax.Array, centre: jax.Array, length: int) -> jax.Array:
    """Sets a square to zero, clipped at the border (DeVries and Taylor, 2017).

    Args:
      image: ``[H, W, C]``.
      centre: int ``[2]``, row and column; the square reaches from ``centre - length // 2``,
        included, over `length` pixels.
      length: side of the square.

    Returns:
      The image with the hole.
    """
    row, column = (
        jnp.arange(side) - (centre[axis] - length // 2) for axis, side in enumerate(image.shape[:2])
    )
    inside_row, inside_column = (row >= 0) & (row < length), (column >= 0) & (column < length)
    return jnp.where((inside_row[:, None] & inside_column[None])[..., None], 0, image)


def normalise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """``(images / 255 - mean) / std``, per channel.

    Args:
      images: uint8 ``[..., C]``.
      mean: one number per channel, of images scaled to [0, 1].
      std: likewise, none of them zero.

    Returns:
      float32, of the same shape.

    Raises:
      ValueError: images are not uint8, or the numbers of channels disagree.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(f"expected uint8 images, got {images.dtype}")
    if not len(mean) == len(std) == images.shape[-1]:
        raise ValueError(
            f"images have {images.shape[-1]} channels, but mean has {len(mean)} and std {len(std)}"
        )
    # Folded in double precision into one multiplication and one subtraction an element.
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    scale = (1 / (255 * deviations)).astype(np.float32)
    shift = (means / deviations).astype(np.float32)
    return images.astype(jnp.float32) * scale - shift
