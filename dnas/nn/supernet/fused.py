"""Fused forms of operations: one computation for all edges that leave a node.

One ReLU, one pooling and one convolution with (edges x channels) outputs serve all edges.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn.initial import weight
from dnas.nn.kernels import pool
from dnas.nn.kernels.conv import conv
from dnas.nn.kernels.norm import batch_norm
from dnas.nn.kernels.separable import separable
from dnas.nn.kernels.spread import weigh
from dnas.nn.layers import subsample_pair

# Called as make(channels, edges, stride); the module it returns is called with images [batch,
# height, width, channels] and the weights of the edges [edges], and returns the weighted outputs
# [batch, height, width, edges or 1, channels]; without weights the outputs themselves. A parameter
# is for all edges, or says in its metadata `edges` which axis is theirs, of size one for each; see
# `dnas.nn.initial.weight`.
FusedMaker = Callable[..., nnx.Module]


class Shared(nnx.Module):
    """An operation without parameters: its one result serves every edge."""

    def __init__(self, function: Callable[[jax.Array, int], jax.Array], stride: int):
        self.function, self.stride = function, stride  # equal where a supernet is made again

    def __call__(self, x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """Maps `x` and weights it."""
        y = self.function(x, self.stride)
        return y[..., None, :] if weights is None else weigh(y, weights)


class FusedConv(nnx.Module):
    """ReLU, convolution, batch normalisation of all edges."""

    def __init__(self, channels: int, edges: int, stride: int, *, kernel: int):
        shape = (kernel, kernel, channels, edges, channels)
        self.kernel = weight(shape, kernel**2 * channels, edges=-2)
        self.stride = stride

    def __call__(self, x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """Maps `x` and weights it."""
        kernel = self.kernel[...]
        y = conv(jax.nn.relu(x), kernel.reshape(*kernel.shape[:3], -1), stride=self.stride)
        return batch_norm(y.reshape(*y.shape[:3], *kernel.shape[3:]), _gain(weights))


class FusedReduction(nnx.Module):
    """Factorized reductions of all edges."""

    def __init__(self, channels: int, edges: int):
        if channels % 2:
            raise ValueError(
                f"a factorized reduction needs an even number of channels, got {channels}"
            )
        self.kernels = weight((2, channels, edges, channels // 2), channels, edges=-2)

    def __call__(self, x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """Maps `x` and weights it."""
        halves = jnp.split(subsample_pair(jax.nn.relu(x)), 2, -1)
        kernels = self.kernels[...].astype(x.dtype)
        pairs = zip(halves, kernels, strict=True)
        y = jnp.concatenate([jnp.einsum("bhwc,ceo->bhweo", h, k) for h, k in pairs], -1)
        return batch_norm(y, _gain(weights))


class FusedSeparable(nnx.Module):
    """ReLU, separable convolution and batch normalisation of all edges, once or twice."""

    def __init__(
        self,
        channels: int,
        edges: int,
        stride: int,
        *,
        kernel: int,
        repeats: int,
        dilation: int = 1,
    ):
        depthwise, pointwise = (kernel, kernel, channels, edges), (channels, edges, channels)
        self.depthwise = nnx.List(weight(depthwise, kernel**2, edges=-1) for _ in range(repeats))
        self.pointwise = nnx.List(weight(pointwise, channels, edges=-2) for _ in range(repeats))
        self.stride, self.dilation = stride, dilation

    def __call__(self, x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """Maps `x` and weights it."""
        last = len(self.depthwise) - 1
        for i, pair in enumerate(zip(self.depthwise, self.pointwise, strict=True)):
            depthwise, pointwise = pair
            x = separable(
                jax.nn.relu(x),
                depthwise[...],
                pointwise[...],
                stride=self.stride if i == 0 else 1,
                dilation=self.dilation,
            )
            x = batch_norm(x, _gain(weights) if i == last else None)
        return x


def _gain(weights: jax.Array | None) -> jax.Array | None:
    return None if weights is None else weights[:, None]


def _shared(function: Callable) -> FusedMaker:
    def make(channels, edges, stride):
        del channels, edges
        return Shared(function, stride)

    return make


def _same(x: jax.Array, stride: int) -> jax.Array:
    del stride
    return x


def skip(channels: int, edges: int, stride: int) -> nnx.Module:
    """Skip connections: identities, or factorized reductions where the stride is two."""
    if stride == 1:
        return Shared(_same, stride)
    return FusedReduction(channels, edges)


def normalised(function: Callable) -> FusedMaker:
    """A pooling with the batch normalisation that DARTS puts behind it in supernets."""

    def pooled(x, stride):
        return batch_norm(function(x, stride))

    return _shared(pooled)


FUSED: Mapping[str, FusedMaker] = {
    "skip_connect": skip,
    "max_pool_3x3": _shared(pool.max_pool),
    "avg_pool_3x3": _shared(pool.avg_pool),
    "nor_conv_1x1": functools.partial(FusedConv, kernel=1),
    "nor_conv_3x3": functools.partial(FusedConv, kernel=3),
    "sep_conv_3x3": functools.partial(FusedSeparable, kernel=3, repeats=2),
    "sep_conv_5x5": functools.partial(FusedSeparable, kernel=5, repeats=2),
    "dil_conv_3x3": functools.partial(FusedSeparable, kernel=3, repeats=1, dilation=2),
    "dil_conv_5x5": functools.partial(FusedSeparable, kernel=5, repeats=1, dilation=2),
}

NORMALISED_POOLS: Mapping[str, FusedMaker] = {
    "max_pool_3x3": normalised(pool.max_pool),
    "avg_pool_3x3": normalised(pool.avg_pool),
}
