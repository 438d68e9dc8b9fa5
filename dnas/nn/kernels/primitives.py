"""What the primitives of convolutions have in common."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from dnas.nn.kernels import native as kernels

# The two forms of each primitive that is made of others, by name: without and with native kernels.
FORMS: dict[str, tuple[Callable, Callable]] = {}
# The parameters of all primitives; the others' are arrays.
_STATIC = ("window", "groups", "size", "image", "outputs", "stride", "dilation", "slot", "shared")


def define(
    name: str,
    reference: Callable,
    *,
    native: Callable | None = None,
    multiple_results: bool = False,
) -> Primitive:
    """A primitive with its values and lowerings, but without derivatives.

    This is the one place where native kernels and XLA part: what is traced is the same for every
    platform, and becomes one form or the other when it is lowered for one.

    Args:
      name: of the primitive, and of the native kernel that computes it on the CPU, if there is one.
      reference: computes it from arrays, the first of them images, and the primitive's static
        parameters.
      native: computes the same, in a form that native kernels of other primitives are good at.
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
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=_STATIC))
    plain = mlir.lower_fun(reference, multiple_results=multiple_results)
    mlir.register_lowering(primitive, plain)
    if name in kernels.KERNELS:
        rule = kernels.lowering(kernels.call(name), plain)
        mlir.register_lowering(primitive, rule, platform="cpu")
    if native is not None:
        FORMS[name] = reference, native
        rule = kernels.lowering(mlir.lower_fun(native, multiple_results=multiple_results), plain)
        mlir.register_lowering(primitive, rule, platform="cpu")
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
