"""Pooling by shifted slices, and by native kernels where there are any.

XLA:CPU takes 32 ms for the gradient of a 3x3 `reduce_window` maximum where that of maxima of
shifted slices takes 2 (batch 64, 32x32, 16 channels), and every backend fuses the slices.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching

from dnas.nn.kernels import native
from dnas.nn.kernels.depthwise import depthwise_conv
from dnas.nn.kernels.primitives import broadcast, define
from dnas.nn.kernels.window import Pair, Window, centred

_SIZE = (3, 3)


def _window(x: jax.Array, stride: int, fill: float, combine: Callable) -> jax.Array:
    """Combines each 3x3 window, rows first, then columns; the border is padded with `fill`."""
    for axis in (1, 2):
        size = x.shape[axis]
        pads = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
        padded = jnp.pad(x, pads, constant_values=fill)
        stop = (size - 1) // stride * stride + 1
        index = (slice(None),) * axis
        x = functools.reduce(
            combine, (padded[(*index, slice(i, i + stop, stride))] for i in range(3))
        )
    return x


def max_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """The maximum of each 3x3 window of ``[batch, height, width, channels]``.

    Where several pixels are the maximum, the native kernel gives the gradient to the first of
    them, as PyTorch does; maxima of slices divide it.
    """
    if native.preferred(x):
        return _max_p.bind(x, window=centred(_SIZE, stride, 1), size=_SIZE)[0]
    return _window(x, stride, -jnp.inf, jnp.maximum)


def avg_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """The mean of each 3x3 window; what hangs over the border does not count."""

    def counts(size: int) -> np.ndarray:
        inside = np.pad(np.ones(size), 1)
        return np.stack([inside[i : i + size] for i in range(3)]).sum(0)[::stride]

    count = counts(x.shape[1])[:, None, None] * counts(x.shape[2])[None, :, None]
    if native.preferred(x):
        total = depthwise_conv(x, jnp.ones((*_SIZE, x.shape[-1]), x.dtype), stride=stride)
    else:
        total = _window(x, stride, 0.0, operator.add)
    return total * jnp.asarray(1 / count, x.dtype)


def halve(x: jax.Array) -> jax.Array:
    """The mean of each 2x2 window, side by side; at an odd end, of what is left."""
    for axis in (1, 2):
        size = x.shape[axis]
        even = jnp.take(x, np.arange(0, size, 2), axis)
        odd = jnp.take(x, np.minimum(np.arange(1, size + size % 2, 2), size - 1), axis)
        x = (even + odd) / 2
    return x


def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean over height and width: ``[batch, channels]``."""
    return x.mean((1, 2))


# The native maximum also tells which tap it came from; its derivative takes the tangent there, and
# the transpose of that puts the cotangent there.


def _derivative_of_max(primals, tangents, **params):
    y, taps = _max_p.bind(*primals, **params)
    change = tangents[0]
    if not isinstance(change, ad.Zero):
        change = _take_p.bind(change, taps, **params)
    return (y, taps), (change, ad.Zero(jax.typeof(taps).to_tangent_aval()))


def _taps(x: jax.Array, fill: float, window: Window, size: Pair) -> jax.Array:
    """What each tap sees: ``[taps, batch, out_height, out_width, channels]``."""
    pads = ((0, 0), *window.padding, (0, 0))
    x = jnp.pad(x, pads, constant_values=fill)
    height, width = (
        (x.shape[1 + i] - size[i]) // window.stride[i] * window.stride[i] + 1 for i in (0, 1)
    )
    rows, columns = window.stride
    return jnp.stack(
        [
            x[:, i : i + height : rows, j : j + width : columns]
            for i in range(size[0])
            for j in range(size[1])
        ]
    )


def _reference_max(x, *, window, size):
    values = _taps(x, -jnp.inf, window, size)
    return values.max(0), values.argmax(0).astype(jnp.uint8)


def _reference_take(x, taps, *, window, size):
    return jnp.take_along_axis(_taps(x, 0.0, window, size), taps[None].astype(jnp.int32), 0)[0]


def _reference_put(y, taps, *, window, size, image: Pair):
    def take(x):
        return _reference_take(x, taps, window=window, size=size)

    x = jax.ShapeDtypeStruct((y.shape[0], *image, y.shape[-1]), y.dtype)
    return jax.linear_transpose(take, x)(y)[0]


def _transpose_take(ct, x, taps, *, window, size):
    return _put_p.bind(ct, taps, window=window, size=size, image=x.aval.shape[1:3]), None


def _transpose_put(ct, y, taps, *, image, **params):
    del y, image
    return _take_p.bind(ct, taps, **params), None


def _tangent(primitive, tangent, images, taps, **params):
    del images
    return primitive.bind(tangent, taps, **params)


def _batch_with(primitive):
    def rule(args, dims, **params):
        args, count = broadcast(args, dims)
        out = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in args), **params)
        split = jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), out)
        return split, [0] * len(out) if primitive.multiple_results else 0

    return rule


_max_p = define("dnas_max_pool", _reference_max, multiple_results=True)
_take_p = define("dnas_take", _reference_take)
_put_p = define("dnas_put", _reference_put)
for _primitive, _transpose in ((_take_p, _transpose_take), (_put_p, _transpose_put)):
    ad.primitive_transposes[_primitive] = _transpose
    ad.defjvp(_primitive, functools.partial(_tangent, _primitive), None)
    batching.primitive_batchers[_primitive] = _batch_with(_primitive)
ad.primitive_jvps[_max_p] = _derivative_of_max
batching.primitive_batchers[_max_p] = _batch_with(_max_p)
