"""Layers that supernets and discrete networks are made of.

They keep float32 parameters and compute in the dtype of their input. `norm` is what makes a
layer's batch normalisation: called with a number of channels, it returns a module that is
called as ``norm(x, use_running_average=...)``.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn.initial import weight
from dnas.nn.kernels.conv import conv
from dnas.nn.kernels.norm import BatchStatisticsNorm, RunningNorm
from dnas.nn.kernels.separable import separable

NormMaker = Callable[[int], nnx.Module]


def running(rngs: nnx.Rngs) -> NormMaker:
    """The norms of a discrete network: learned scale and shift, running averages."""
    return functools.partial(RunningNorm, rngs=rngs)


def batch_statistics(affine: bool = False) -> NormMaker:
    """The norms of a supernet: batch statistics; scale and shift only where `affine`."""
    return functools.partial(BatchStatisticsNorm, affine=affine)


class Conv(nnx.Module):
    """A convolution without bias; arguments as in `dnas.nn.kernels.conv.conv`."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
    ):
        shape = (kernel, kernel, channels_in, channels_out)
        self.kernel = weight(shape, kernel**2 * channels_in)
        self.stride, self.dilation, self.padding = stride, dilation, padding

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves ``[batch, height, width, channels_in]``."""
        return conv(
            x,
            self.kernel[...],
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
        )


class SeparableConv(nnx.Module):
    """A depthwise and then a pointwise convolution; see `dnas.nn.kernels.separable.separable`."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ):
        self.depthwise = weight((kernel, kernel, channels_in), kernel**2)
        self.pointwise = weight((channels_in, channels_out), channels_in)
        self.stride, self.dilation = stride, dilation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves ``[batch, height, width, channels_in]``."""
        y = separable(
            x,
            self.depthwise[...][..., None],
            self.pointwise[...][:, None],
            stride=self.stride,
            dilation=self.dilation,
        )
        return y[..., 0, :]


class ReluConvNorm(nnx.Module):
    """ReLU, convolution, batch normalisation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        norm: NormMaker,
    ):
        self.conv = Conv(channels_in, channels_out, kernel, stride=stride)
        self.norm = norm(channels_out)

    def __call__(self, x: jax.Array, use_running_average: bool = False) -> jax.Array:
        """Maps ``[batch, height, width, channels_in]``."""
        return self.norm(self.conv(jax.nn.relu(x)), use_running_average=use_running_average)


def subsample_pair(x: jax.Array) -> jax.Array:
    """Every second pixel, and every second pixel one off the diagonal, as twice the channels.

    A factorized reduction is a 1x1 convolution of this: its first half of outputs sees the
    first half of channels, its second half the second (Liu et al., 2019, published code).
    Odd sizes are padded with zeros at their end.
    """
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    # Not x[:, ::2, ::2]: where a matrix product takes that, and anything else takes x, XLA's GPU
    # compiler aborts (jaxlib 0.10.2, pass triton-gemm-rewriter).
    squares = x.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return jnp.concatenate([squares[:, :, 0, :, 0], squares[:, :, 1, :, 1]], -1)


class FactorizedReduction(nnx.Module):
    """ReLU, two 1x1 convolutions of stride 2 side by side, batch normalisation.

    Args:
      channels_in: channels of the input.
      channels_out: channels of the output; must be even.
      norm: makes the batch normalisation.
    """

    def __init__(self, channels_in: int, channels_out: int, *, norm: NormMaker):
        if channels_out % 2:
            raise ValueError(
                f"a factorized reduction needs an even number of channels, got {channels_out}"
            )
        shape = (2, channels_in, channels_out // 2)
        self.kernels = weight(shape, channels_in)
        self.norm = norm(channels_out)

    def __call__(self, x: jax.Array, use_running_average: bool = False) -> jax.Array:
        """Maps ``[batch, height, width, channels_in]`` to half the height and width."""
        kernel = factorized_kernel(self.kernels[...])[None, None]
        y = conv(subsample_pair(jax.nn.relu(x)), kernel)
        return self.norm(y, use_running_average=use_running_average)


def factorized_kernel(kernels: jax.Array) -> jax.Array:
    """The block-diagonal ``[2 * channels_in, channels_out]`` of a factorized reduction."""
    return jax.scipy.linalg.block_diag(*kernels)


class Linear(nnx.Module):
    """An affine map with PyTorch's default initialisation."""

    def __init__(self, features_in: int, features_out: int):
        self.kernel = weight((features_in, features_out), features_in)
        self.bias = weight((features_out,), features_in)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, features_in]``."""
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class PooledLinear(Linear):
    """An affine map of the deepest features, averaged over all places."""

    def __call__(self, features: tuple[jax.Array, ...]) -> jax.Array:
        """Maps features ``[batch, ..., channels_in]``, the last of several, to ``[batch, out]``.

        Features ``[batch, channels_in]`` have no places to average over.
        """
        deepest = features[-1]
        return super().__call__(deepest.mean(tuple(range(1, deepest.ndim - 1))))


def drop_path(x: jax.Array, probability: jax.Array, key: jax.Array | None) -> jax.Array:
    """Drops whole images of a batch and scales the rest (Larsson et al., 2017).

    Args:
      x: ``[batch, ...]``.
      probability: of an image to be dropped, below 1; may be traced.
      key: a PRNG key.

    Raises:
      ValueError: there is no key.
    """
    if key is None:
        raise ValueError("key=None: dropping paths needs a PRNG key")
    keep = 1.0 - probability
    mask = jax.random.bernoulli(key, keep, (x.shape[0],) + (1,) * (x.ndim - 1))
    return x * (mask / keep).astype(x.dtype)


def dropout(x: jax.Array, probability: jax.Array, key: jax.Array | None) -> jax.Array:
    """Drops elements and scales the rest by ``1 / (1 - probability)`` (Srivastava et al., 2014).

    Args:
      x: an array.
      probability: of an element to be dropped, below 1; may be traced.
      key: a PRNG key.

    Raises:
      ValueError: there is no key.
    """
    if key is None:
        raise ValueError("key=None: skip_dropout needs a PRNG key")
    keep = 1.0 - jnp.asarray(probability, jnp.float32)
    mask = jax.random.bernoulli(key, keep, x.shape)
    return x * (mask / keep).astype(x.dtype)
