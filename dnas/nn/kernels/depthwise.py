"""Depthwise convolutions."""

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching

from dnas.nn.kernels.conv import lax_conv
from dnas.nn.kernels.primitives import broadcast, define, divide
from dnas.nn.kernels.window import Pair, Window, centred

_POINT = centred((1, 1), 1, 1)  # the window of a kernel of one tap


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """Convolves every channel with kernels of its own.

    Args:
      x: images ``[batch, height, width, channels]``.
      kernel: ``[kernel_height, kernel_width, repeats * channels]``; output ``o`` sees the
        channel ``o mod channels``.
      stride: step between outputs, both ways.
      dilation: step between taps, both ways.

    Returns:
      ``[batch, out_height, out_width, repeats * channels]``.
    """
    window = centred(kernel.shape[:2], stride, dilation)
    return _depthwise_p.bind(x, kernel.astype(x.dtype), window=window, outputs=kernel.shape[-1])


def fold(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The weighted sum over edges of ``[batch, height, width, edges, channels]``.

    Args:
      x: images of all edges.
      weights: ``[edges, groups]``, for equal groups of channels.
    """
    edges, channels = x.shape[-2:]
    kernel = jnp.repeat(weights.reshape(-1), channels // weights.shape[1])[None, None]
    flat = x.reshape(*x.shape[:3], edges * channels)
    return _depthwise_p.bind(flat, kernel, window=_POINT, outputs=channels)


def products(x: jax.Array, y: jax.Array, groups: int) -> jax.Array:
    """For every edge and group of channels the product of images with `y`, summed.

    Args:
      x: ``[batch, height, width, channels]``.
      y: ``[batch, height, width, edges, channels]``.
      groups: number of groups of channels.
    """
    edges, channels = y.shape[-2:]
    flat = y.reshape(*y.shape[:3], edges * channels)
    found = _kernel_p.bind(x, flat, window=_POINT, size=(1, 1))
    return found.reshape(edges, groups, -1).sum(-1)


# The primitive adds x[..., k mod channels] * kernel[tap, k] to y[..., k mod outputs] for all k:
# there are as many k as channels or as outputs, whichever is more, so that its transposes are of
# its kind.


def _lax_depthwise(x, kernel, *, window: Window, outputs: int):
    count = kernel.shape[-1]
    x = jnp.tile(x, count // x.shape[-1])
    y = lax_conv(x, kernel[:, :, None], window=window, groups=count)
    return divide(y, count // outputs).sum(-2)


def _lax_depthwise_kernel(x, ct, *, window: Window, size: Pair):
    def product(kernel):
        return _lax_depthwise(x, kernel, window=window, outputs=ct.shape[-1])

    shape = (*size, max(x.shape[-1], ct.shape[-1]))
    return jax.linear_transpose(product, jax.ShapeDtypeStruct(shape, x.dtype))(ct)[0]


def _images(ct, kernel, shape: tuple[int, ...], window: Window):
    window = window.for_images(shape[1:3], kernel.shape[:2], ct.shape[1:3])
    return _depthwise_p.bind(ct, jnp.flip(kernel, (0, 1)), window=window, outputs=shape[-1])


def _depthwise_images(ct, x, kernel, *, window, outputs):
    del outputs
    return _images(ct, kernel, x.aval.shape, window)


def _depthwise_kernel(ct, x, kernel, *, window, outputs):
    del outputs
    return _kernel_p.bind(x, ct, window=window, size=kernel.aval.shape[:2])


def _kernel_images(ct, x, y, *, window, size):
    del size
    return _images(y, ct, x.aval.shape, window)


def _kernel_outputs(ct, x, y, *, window, size):
    del size
    return _depthwise_p.bind(x, ct, window=window, outputs=y.aval.shape[-1])


def _fold(x: jax.Array, channels: int) -> jax.Array:
    """``[n, ..., repeats * channels]`` as ``[..., repeats * n * channels]``."""
    x = jnp.moveaxis(divide(x, x.shape[-1] // channels), 0, -2)
    return x.reshape(*x.shape[:-3], -1)


def _unfold(x: jax.Array, count: int, channels: int) -> jax.Array:
    """The inverse of `_fold`."""
    x = jnp.moveaxis(x.reshape(*x.shape[:-1], -1, count, channels), -2, 0)
    return x.reshape(*x.shape[:-2], -1)


def _batch_depthwise(args, dims, *, window, outputs):
    if dims[1] is None:  # a batch of images joins theirs
        x = jnp.moveaxis(args[0], dims[0], 0)
        joined = x.reshape(-1, *x.shape[2:])
        out = _depthwise_p.bind(joined, args[1], window=window, outputs=outputs)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0
    (x, kernel), count = broadcast(args, dims)
    least = min(x.shape[-1], outputs)
    out = _depthwise_p.bind(
        _fold(x, least), _fold(kernel, least), window=window, outputs=count * outputs
    )
    return _unfold(out, count, least), 0


def _batch_kernel(args, dims, **params):
    (x, ct), count = broadcast(args, dims)
    least = min(x.shape[-1], ct.shape[-1])
    out = _kernel_p.bind(_fold(x, least), _fold(ct, least), **params)
    return _unfold(out, count, least), 0


_depthwise_p = define("dnas_depthwise", _lax_depthwise)
_kernel_p = define("dnas_depthwise_kernel", _lax_depthwise_kernel)
ad.defbilinear(_depthwise_p, _depthwise_images, _depthwise_kernel)
ad.defbilinear(_kernel_p, _kernel_images, _kernel_outputs)
batching.primitive_batchers[_depthwise_p] = _batch_depthwise
batching.primitive_batchers[_kernel_p] = _batch_kernel
