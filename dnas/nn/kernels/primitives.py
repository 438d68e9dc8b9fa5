"""What the primitives of convolutions have in common."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from dnas.nn.kernels import native


def define(name: str, reference: Callable, multiple_results: bool = False) -> Primitive:
    """A primitive with its values and lowerings, but without derivatives.

    Args:
      name: of the primitive, and of the native kernel that computes it on the CPU.
      reference: computes it from arrays, the first of them images, and the primitive's static
        parameters.
      multiple_results: whether it returns a sequence.
    """
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results

    @functools.cache  # tracing would spend a quarter of its time here
    def shapes(args, params):
        return jax.eval_shape(functools.partial(reference, **dict(params)), *args)

    def abstract(*args, **params):
        key = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args), tuple(params.items())
        return jax.tree.map(
            lambda s: args[0].update(shape=s.shape, dtype=s.dtype, weak_type=False), shapes(*key)
        )

    primitive.def_abstract_eval(abstract)
    static = ("window", "groups", "size", "image", "outputs")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=static))
    plain = mlir.lower_fun(reference, multiple_results=multiple_results)
    mlir.register_lowering(primitive, plain)
    if name in native.KERNELS:
        mlir.register_lowering(primitive, native.lowering(name, plain), platform="cpu")
    return primitive


def join(x: jax.Array) -> jax.Array:
    """``[n, ..., channels]`` as ``[..., n * channels]``."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def divide(x: jax.Array, count: int) -> jax.Array:
    """``[..., count * channels]`` as ``[..., count, channels]``."""
    return x.reshape(*x.shape[:-1], count, x.shape[-1] // count)


def broadcast(args: tuple, dims: tuple) -> tuple[list[jax.Array], int]:
    """All arguments with a leading axis of the batch, and its size."""
    count = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(a, (count, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    ], count
