"""What the primitives of convolutions have in common."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from dnas.nn import native


def define(name: str, reference: Callable) -> Primitive:
    """A primitive of two arrays, with its values and lowerings but without derivatives.

    Args:
      name: of the primitive, and of the native kernel that computes it on the CPU.
      reference: computes it from the two arrays and the primitive's parameters: ``window``, and
        where it has them ``groups`` and ``size``.
    """
    primitive = Primitive(name)

    def abstract(x, other, **params):
        out = jax.eval_shape(functools.partial(reference, **params), x, other)
        return x.update(shape=out.shape, dtype=out.dtype, weak_type=False)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("window", "groups", "size")))
    plain = mlir.lower_fun(reference, multiple_results=False)
    mlir.register_lowering(primitive, plain)
    mlir.register_lowering(primitive, native.lowering(name, plain), platform="cpu")
    return primitive


def join(x: jax.Array) -> jax.Array:
    """``[n, ..., channels]`` as ``[..., n * channels]``."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def divide(x: jax.Array, count: int) -> jax.Array:
    """``[..., count * channels]`` as ``[..., count, channels]``."""
    return x.reshape(*x.shape[:-1], count, -1)


def broadcast(args: tuple, dims: tuple) -> tuple[list[jax.Array], int]:
    """All arguments with a leading axis of the batch, and its size."""
    count = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(a, (count, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    ], count
