"""Batch normalisation."""

import functools
import math
import operator
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from dnas.nn.kernels.primitives import broadcast, define, divide, join

EPSILON = 1e-5
STATISTICS = "statistics"  # the name under which `jax.checkpoint` can save them


def batch_norm(x: jax.Array, gain: jax.Array | None = None) -> jax.Array:
    """Normalises every channel by its own batch's mean and variance.

    Args:
      x: ``[batch, height, width, ..., channels]``; whatever lies behind the width is a channel.
      gain: what the result is multiplied by, of a shape that broadcasts to the channels. The
        gradient in it comes out of the same pass over memory as that in `x`.

    Returns:
      An array like `x`; the statistics are computed in float32.
    """
    flat = x.astype(jnp.float32).reshape(*x.shape[:3], -1)
    channels = x.shape[3:]
    gain = jnp.ones(channels) if gain is None else jnp.broadcast_to(gain, channels)
    return _normalise(flat, gain.astype(jnp.float32).reshape(-1)).reshape(x.shape).astype(x.dtype)


@jax.custom_jvp
def _normalise(x: jax.Array, gain: jax.Array) -> jax.Array:
    mean, scale = _statistics(x)
    return (x - mean) * (scale * gain)


@_normalise.defjvp
def _normalise_jvp(primals, tangents):
    # The derivative in closed form, with its transpose in closed form: two reductions in either
    # direction, where differentiating mean and variance one by one takes twice as many.
    x, gain = primals
    mean, scale = checkpoint_name(_statistics(x), STATISTICS)
    return (x - mean) * (scale * gain), _change_p.bind(*tangents, x, mean, scale, gain)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, variance = _moments_p.bind(x)
    return mean, lax.rsqrt(variance + EPSILON)


def _moments_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    mean, variance = _moments_p.bind(x)
    dx = ad.instantiate_zeros(dx)
    return (mean, variance), (_mean(dx), 2 * _mean((x - mean) * dx))


def _mean(x: jax.Array) -> jax.Array:
    return x.mean((0, 1, 2))


def _reference_moments(x):
    mean = _mean(x)
    return mean, _mean(jnp.square(x - mean))


def _reference_projections(g, x, mean, scale):
    return _mean(g), _mean(g * (x - mean) * scale)


def _change(dx, dgain, x, mean, scale, gain, project=_reference_projections):
    """The change of the output: `dx` without its parts along the constants and along `x`."""
    first, second = project(dx, x, mean, scale)
    normal = (x - mean) * scale
    return gain * scale * (dx - first - normal * second) + dgain * normal


def _adjoint(ct, x, mean, scale, gain, project=_reference_projections):
    """The transpose of `_change` in its first two arguments."""
    first, second = project(ct, x, mean, scale)
    normal = (x - mean) * scale
    return gain * scale * (ct - first - normal * second), second * (x.size // x.shape[-1])


def _linear(primitive: Primitive, function: Callable, count: int) -> Callable:
    """The derivative of a primitive that is linear in its first `count` arguments."""

    def rule(primals, tangents):
        out = primitive.bind(*primals)
        linear, others = primals[:count], primals[count:]
        terms = []
        if not all(isinstance(t, ad.Zero) for t in tangents[:count]):
            changes = (ad.instantiate_zeros(t) for t in tangents[:count])
            terms.append(primitive.bind(*changes, *others))
        if not all(isinstance(t, ad.Zero) for t in tangents[count:]):
            changes = tuple(ad.instantiate_zeros(t) for t in tangents[count:])
            terms.append(jax.jvp(functools.partial(function, *linear), tuple(others), changes)[1])
        return out, jax.tree.map(lambda *t: functools.reduce(operator.add, t), *map(_listed, terms))

    def _listed(term):
        return list(term) if primitive.multiple_results else term

    return rule


def _transpose_change(ct, dx, dgain, *others):
    del dx, dgain
    return *_adjoint_p.bind(ct, *others), None, None, None, None


def _transpose_adjoint(cts, ct, *others):
    del ct
    x, gain = others[0], others[-1]
    dx, dgain = (
        jnp.zeros_like(like) if isinstance(c, ad.Zero) else c
        for c, like in zip(cts, (x, gain), strict=True)
    )
    return _change_p.bind(dx, dgain, *others), None, None, None, None


def _batch_with(primitive):
    """A batch joins the channels."""

    def rule(args, dims):
        args, count = broadcast(args, dims)
        out = primitive.bind(*(join(a) for a in args))
        if primitive.multiple_results:
            return [divide(a, count) for a in out], [a.ndim - 1 for a in out]
        return divide(out, count), out.ndim - 1

    return rule


_moments_p = define("dnas_moments", _reference_moments, multiple_results=True)
_projections_p = define("dnas_projections", _reference_projections, multiple_results=True)
_change_p = define("dnas_change", functools.partial(_change, project=_projections_p.bind))
_adjoint_p = define(
    "dnas_adjoint", functools.partial(_adjoint, project=_projections_p.bind), multiple_results=True
)
ad.primitive_jvps[_moments_p] = _moments_jvp
ad.primitive_jvps[_change_p] = _linear(_change_p, _change, 2)
ad.primitive_jvps[_adjoint_p] = _linear(_adjoint_p, _adjoint, 1)
ad.primitive_transposes[_change_p] = _transpose_change
ad.primitive_transposes[_adjoint_p] = _transpose_adjoint
for _primitive in (_moments_p, _change_p, _adjoint_p):
    batching.primitive_batchers[_primitive] = _batch_with(_primitive)


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
        if self.scale is None or self.shift is None:
            return y
        return y * self.scale[...].astype(y.dtype) + self.shift[...].astype(y.dtype)


class RunningNorm(nnx.BatchNorm):
    """The batch normalisation of discrete networks, with PyTorch's momentum and epsilon.

    Only the variables are Flax's. In training it computes what supernets do, variances from
    deviations: Flax's default, a difference of mean squares, loses all digits where the mean is
    large. Running averages take the batch's unbiased variance, as PyTorch's do.

    Args:
      channels: number of channels.
      rngs: unused; Flax asks for it.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        super().__init__(channels, momentum=0.9, epsilon=EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array, use_running_average: bool = False) -> jax.Array:
        """Normalises ``[batch, ..., channels]`` in float32 and returns the dtype of `x`."""
        own = cast(tuple[nnx.Param, nnx.Param], (self.scale, self.bias))
        gain, bias = (v[...].astype(jnp.float32) for v in own)
        flat = x.astype(jnp.float32).reshape(len(x), math.prod(x.shape[1:-1]), 1, x.shape[-1])
        if use_running_average:
            y = (flat - self.mean[...]) * (lax.rsqrt(self.var[...] + EPSILON) * gain)
        else:
            self._update(flat)
            y = _normalise(flat, gain)
        return (y + bias).reshape(x.shape).astype(x.dtype)

    def _update(self, x: jax.Array) -> None:
        mean, variance = _moments_p.bind(lax.stop_gradient(x))
        count = x.size // x.shape[-1]
        variance = variance * (count / max(count - 1, 1))
        for average, value in ((self.mean, mean), (self.var, variance)):
            average[...] = self.momentum * average[...] + (1 - self.momentum) * value
