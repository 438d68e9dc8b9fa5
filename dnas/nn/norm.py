"""Batch normalisation of supernets."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

EPSILON = 1e-5


def batch_norm(x: jax.Array) -> jax.Array:
    """Normalises every channel by its own batch's mean and variance.

    Args:
      x: ``[batch, height, width, ..., channels]``; whatever lies behind the width is a channel.

    Returns:
      An array like `x`; the statistics are computed in float32.
    """
    return _normalise(x.astype(jnp.float32)).astype(x.dtype)


def _mean(x: jax.Array) -> jax.Array:
    return x.mean((0, 1, 2))


def _standardise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    centred = x - _mean(x)
    scale = lax.rsqrt(_mean(jnp.square(centred)) + EPSILON)
    return centred * scale, scale


@jax.custom_jvp
def _normalise(x: jax.Array) -> jax.Array:
    return _standardise(x)[0]


@_normalise.defjvp
def _normalise_jvp(primals, tangents):
    # The derivative in closed form, which is its own transpose: two reductions in either
    # direction, where differentiating mean and variance one by one takes twice as many.
    (x,), (dx,) = primals, tangents
    y, scale = _standardise(x)
    return y, scale * (dx - _mean(dx) - y * _mean(y * dx))


class BatchStatisticsNorm(nnx.Module):
    """Batch normalisation without running averages: a pure function, as supernets need it.

    Args:
      channels: number of channels.
      affine: whether scale and shift are learned; supernets learn them outside of cells only.
    """

    def __init__(self, channels: int, *, affine: bool = False):
        self.scale = nnx.Param(jnp.ones(channels)) if affine else None
        self.shift = nnx.Param(jnp.zeros(channels)) if affine else None

    def __call__(self, x: jax.Array, use_running_average: bool = False) -> jax.Array:
        """Normalises; `use_running_average` is there for `flax.nnx.BatchNorm`'s signature."""
        del use_running_average
        y = batch_norm(x)
        if self.scale is None:
            return y
        return y * self.scale[...].astype(y.dtype) + self.shift[...].astype(y.dtype)


class RunningNorm(nnx.BatchNorm):
    """The batch normalisation of discrete networks, with PyTorch's momentum and epsilon.

    The running variance is Flax's, biased, where PyTorch's is the unbiased one: with the
    thousands of values a channel that networks normalise over, a difference below 0.1 %.

    Args:
      channels: number of channels.
      rngs: unused; Flax asks for it.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        super().__init__(channels, momentum=0.9, epsilon=EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array, use_running_average: bool = False) -> jax.Array:
        """Normalises in float32 and returns the dtype of `x`."""
        return super().__call__(x, use_running_average=use_running_average).astype(x.dtype)
