"""Candidate operations by name, as genotypes name them.

This is the only registry of the library. A constructor is called as
``make(channels, stride, norm=..., rngs=...)`` and returns a module that maps
``[batch, height, width, channels]`` to the same number of channels, at height and width
divided by the stride, when called as ``op(x, use_running_average=False, key=None)``.
"""

import functools
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from dnas.checks import shown
from dnas.nn.kernels import pool
from dnas.nn.layers import (
    FactorizedReduction,
    NormMaker,
    ReluConvNorm,
    SeparableConv,
    batch_statistics,
)
from dnas.space import Decision, Traits

OperationMaker = Callable[..., nnx.Module]

_OPERATIONS: dict[str, OperationMaker] = {}
_TRAITS: dict[str, Traits] = {}
_CHANNELS = 64  # of the module that tells whether an operation has weights


def register(name: str, make: OperationMaker, traits: Traits | None = None) -> None:
    """Makes an operation known under a name that spaces and genotypes can use.

    Args:
      name: the operation's name; must be new.
      make: its constructor, as this module's docstring says.
      traits: what it is. By default it is neither a skip connection nor nothing, and has weights if
        its module has.

    Raises:
      ValueError: the name is taken.
    """
    if name in _OPERATIONS:
        raise ValueError(f"an operation named {name!r} exists; choose another name")
    _OPERATIONS[name] = make
    if traits is not None:
        _TRAITS[name] = traits


def traits(name: str) -> Traits:
    """What the operation of that name is."""
    require((name,))
    return _TRAITS[name] if name in _TRAITS else _traits_of(_OPERATIONS[name])


@functools.cache
def _traits_of(make: OperationMaker) -> Traits:
    """Those that follow from shapes alone."""
    module = nnx.eval_shape(
        lambda: make(_CHANNELS, 1, norm=batch_statistics(affine=False), rngs=nnx.Rngs(0))
    )
    return Traits(weights=bool(jax.tree.leaves(nnx.state(module, nnx.Param))))


class Operations(Decision):
    """A table of decisions whose options are operations of this registry."""

    __slots__ = ()

    @property
    def traits(self) -> tuple[Traits, ...]:
        """What each option is."""
        return tuple(map(traits, self.options))


def connections(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some operations that are connections, unlike 'none'."""
    return tuple(name for name in names if not traits(name).zero)


def known() -> tuple[str, ...]:
    """The names of all operations."""
    return tuple(_OPERATIONS)


def require(names: tuple[str, ...]) -> None:
    """Raises ValueError unless every name is known."""
    unknown = [name for name in names if name not in _OPERATIONS]
    if unknown:
        raise ValueError(f"unknown operations {shown(unknown)}; known are {sorted(_OPERATIONS)}")


def make(
    name: str, channels: int, stride: int = 1, *, norm: NormMaker, rngs: nnx.Rngs
) -> nnx.Module:
    """Builds the operation of that name."""
    require((name,))
    return _OPERATIONS[name](channels, stride, norm=norm, rngs=rngs)


class Zero(nnx.Module):
    """No connection."""

    def __init__(self, channels: int, stride: int, *, norm: NormMaker, rngs: nnx.Rngs):
        del channels, norm, rngs
        self.stride = stride

    def __call__(self, x, use_running_average=False, key=None):
        """Zeros of the output's shape."""
        return jax.numpy.zeros_like(x[:, :: self.stride, :: self.stride])


class Identity(nnx.Module):
    """The input itself."""

    def __call__(self, x, use_running_average=False, key=None):
        """Returns `x`."""
        return x


class Pool(nnx.Module):
    """A 3x3 pooling."""

    def __init__(self, function: Callable, stride: int):
        self.function, self.stride = function, stride

    def __call__(self, x, use_running_average=False, key=None):
        """Pools `x`."""
        return self.function(x, self.stride)


class Noise(nnx.Module):
    """Standard normal noise in place of the input (Zela et al., 2020, space S4)."""

    def __init__(self, channels: int, stride: int, *, norm: NormMaker, rngs: nnx.Rngs):
        del channels, norm, rngs
        self.stride = stride

    def __call__(self, x, use_running_average=False, key=None):
        """Noise of the output's shape; needs a key."""
        if key is None:
            raise ValueError("the operation 'noise' needs a PRNG key: call the network with key=")
        shape = x[:, :: self.stride, :: self.stride].shape
        return jax.random.normal(key, shape, x.dtype)


class ConvNorm(ReluConvNorm):
    """ReLU, convolution, batch normalisation, with an operation's signature."""

    def __call__(self, x, use_running_average=False, key=None):
        """Maps `x`."""
        return super().__call__(x, use_running_average)


class Reduction(FactorizedReduction):
    """A factorized reduction with an operation's signature."""

    def __call__(self, x, use_running_average=False, key=None):
        """Maps `x`."""
        return super().__call__(x, use_running_average)


class Separable(nnx.Module):
    """ReLU, separable convolution, batch normalisation, once or twice (stride in the first)."""

    def __init__(
        self,
        channels: int,
        stride: int,
        kernel: int,
        *,
        dilation: int = 1,
        repeats: int,
        norm: NormMaker,
    ):
        strides = (stride,) + (1,) * (repeats - 1)
        self.convs = nnx.List(
            SeparableConv(channels, channels, kernel, stride=s, dilation=dilation) for s in strides
        )
        self.norms = nnx.List(norm(channels) for _ in strides)

    def __call__(self, x, use_running_average=False, key=None):
        """Maps `x`."""
        for convolve, normalise in zip(self.convs, self.norms, strict=True):
            x = normalise(convolve(jax.nn.relu(x)), use_running_average=use_running_average)
        return x


def _skip(channels: int, stride: int, *, norm: NormMaker, rngs: nnx.Rngs) -> nnx.Module:
    if stride == 1:
        return Identity()
    return Reduction(channels, channels, norm=norm)


def _pool(function: Callable) -> OperationMaker:
    return lambda channels, stride, *, norm, rngs: Pool(function, stride)


def _conv(kernel: int) -> OperationMaker:
    return lambda channels, stride, *, norm, rngs: ConvNorm(
        channels, channels, kernel, stride=stride, norm=norm
    )


def _separable(kernel: int, repeats: int, dilation: int = 1) -> OperationMaker:
    return lambda channels, stride, *, norm, rngs: Separable(
        channels, stride, kernel, dilation=dilation, repeats=repeats, norm=norm
    )


register("none", Zero, Traits(zero=True, weights=False))
register("skip_connect", _skip, Traits(identity=True, weights=False))
register("max_pool_3x3", _pool(pool.max_pool))
register("avg_pool_3x3", _pool(pool.avg_pool))
register("nor_conv_1x1", _conv(1))
register("nor_conv_3x3", _conv(3))
register("sep_conv_3x3", _separable(3, repeats=2))
register("sep_conv_5x5", _separable(5, repeats=2))
register("dil_conv_3x3", _separable(3, repeats=1, dilation=2))
register("dil_conv_5x5", _separable(5, repeats=1, dilation=2))
register("noise", Noise)
