"""Pooling: by shifted slices, and on the CPU by native kernels.

XLA:CPU takes 32 ms for the gradient of a 3x3 `reduce_window` maximum where that of maxima of
shifted slices takes 2 (batch 64, 32x32, 16 channels), and every backend fuses the slices.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching

from dnas.nn.kernels.depthwise import depthwise_conv
from dnas.nn.kernels.primitives import broadcast, define
from dnas.nn.kernels.window import Pair, Window, centred

_SIZE = (3, 3)


def max_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """The maximum of each 3x3 window of ``[batch, height, width, channels]``.

    Where several pixels are the maximum, the first of them takes the gradient, as in PyTorch.
    """
    return _max_p.bind(x, window=centred(_SIZE, stride, 1), size=_SIZE)[0]


def avg_pool(x: jax.Array, stride: int = 1) -> jax.Array:
    """The mean of each 3x3 window; what hangs over the border does not count."""

    def counts(size: int) -> np.ndarray:
        inside = np.pad(np.ones(size), 1)
        return np.stack([inside[i : i + size] for i in range(3)]).sum(0)[::stride]

    count = counts(x.shape[1])[:, None, None] * counts(x.shape[2])[None, :, None]
    total = _sum_p.bind(x, stride=stride)
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


def _along(x: jax.Array, axis: int, stride: int, fill: float) -> list[jax.Array]:
    """What the three taps of a window see along one axis, with a border of `fill`."""
    pads = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
    padded = jnp.pad(x, pads, constant_values=fill)
    stop = (x.shape[axis] - 1) // stride * stride + 1
    return [jax.lax.slice_in_dim(padded, i, i + stop, stride, axis) for i in range(3)]


# Sums of windows, and the transpose, which gives each pixel the sum of the windows that it is in.


def _reference_sum(x, *, stride: int):
    for axis in (1, 2):
        x = functools.reduce(operator.add, _along(x, axis, stride, 0.0))
    return x


def _native_sum(x, *, stride: int):
    return depthwise_conv(x, jnp.ones((*_SIZE, x.shape[-1]), x.dtype), stride=stride)


def _transposed(function: Callable) -> Callable:
    def transposed(y, *, stride: int, image: Pair):
        x = jax.ShapeDtypeStruct((y.shape[0], *image, y.shape[-1]), y.dtype)
        return jax.linear_transpose(functools.partial(function, stride=stride), x)(y)[0]

    return transposed


def _transpose_sum(ct, x, *, stride):
    return [_spread_p.bind(ct, stride=stride, image=x.aval.shape[1:3])]


def _transpose_spread(ct, y, *, stride, image):
    del y, image
    return [_sum_p.bind(ct, stride=stride)]


# The maximum also tells which tap it came from; its derivative takes the tangent there, and the
# transpose of that puts the cotangent there.


def _derivative_of_max(primals, tangents, **params):
    y, taps = _max_p.bind(*primals, **params)
    change = tangents[0]
    if not isinstance(change, ad.Zero):
        change = _take_p.bind(change, taps, **params)
    return (y, taps), (change, ad.Zero(jax.typeof(taps).to_tangent_aval()))


def _first_largest(values: Sequence[jax.Array], taps: Sequence[Any]) -> tuple[Any, Any]:
    """The largest value, with its tap; the first of equal ones, and any NaN first of all."""
    largest, tap = values[0], taps[0]
    for value, candidate in zip(values[1:], taps[1:], strict=True):
        better = (value > largest) | (jnp.isnan(value) & ~jnp.isnan(largest))
        largest = jnp.where(better, value, largest)
        tap = jnp.where(better, candidate, tap)
    return largest, tap


def _reference_max(x, *, window: Window, size: Pair):
    stride = window.stride[0]
    # The columns of each row, then the rows: the first of equal pixels in the window's order.
    largest, column = _first_largest(_along(x, 2, stride, -jnp.inf), (0, 1, 2))
    columns = _along(column, 1, stride, 0)
    taps = [size[1] * row + column for row, column in enumerate(columns)]
    largest, tap = _first_largest(_along(largest, 1, stride, -jnp.inf), taps)
    return largest, tap.astype(jnp.uint8)


def _reference_take(x, taps, *, window: Window, size: Pair):
    stride = window.stride[0]
    seen = [value for row in _along(x, 1, stride, 0.0) for value in _along(row, 2, stride, 0.0)]
    return sum(jnp.where(taps == tap, value, 0) for tap, value in enumerate(seen))


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


_sum_p = define("dnas_window_sum", _reference_sum, native=_native_sum)
_spread_p = define(
    "dnas_window_spread", _transposed(_reference_sum), native=_transposed(_native_sum)
)
_max_p = define("dnas_max_pool", _reference_max, multiple_results=True)
_take_p = define("dnas_take", _reference_take)
_put_p = define("dnas_put", _reference_put)
for _primitive, _transpose in ((_sum_p, _transpose_sum), (_spread_p, _transpose_spread)):
    ad.deflinear2(_primitive, _transpose)
    batching.primitive_batchers[_primitive] = _batch_with(_primitive)
for _primitive, _transpose in ((_take_p, _transpose_take), (_put_p, _transpose_put)):
    ad.primitive_transposes[_primitive] = _transpose
    ad.defjvp(_primitive, functools.partial(_tangent, _primitive), None)
    batching.primitive_batchers[_primitive] = _batch_with(_primitive)
ad.primitive_jvps[_max_p] = _derivative_of_max
batching.primitive_batchers[_max_p] = _batch_with(_max_p)
