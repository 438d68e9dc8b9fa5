"""The numbers in which networks compute their forward and backward passes.

Parameters, alphas, losses, statistics of batches and states of optimizers are float32 in all of
them:

    float32    inputs, weights and products of convolutions and matrices are float32
    tf32       as float32, but products round their factors: to TensorFloat-32 on GPUs that have it,
               to the sum of two bfloat16 on TPUs; CPUs round nothing
    bfloat16   inputs, weights and what layers hand on are bfloat16
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from dnas import checks

P = ParamSpec("P")
R = TypeVar("R")

# The precision of products for JAX, whose own default is TF32 on GPUs and bfloat16 on TPUs.
_PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}
DTYPES = tuple(_PRECISIONS)


def check(dtype: Any) -> None:
    """Raises ValueError unless `dtype` is the name of an arithmetic."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype={checks.shown(dtype)}: expected one of {', '.join(DTYPES)}")


def within(dtype: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: all products of float32 in the function have the precision of an arithmetic.

    Args:
      dtype: name of the arithmetic.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def precise(*args: P.args, **kwargs: P.kwargs) -> R:
            with jax.default_matmul_precision(_PRECISIONS[dtype]):
                return function(*args, **kwargs)

        return precise

    return decorate


def cast(tree: Any, dtype: str) -> Any:
    """The floating-point arrays of a pytree in the dtype that layers of an arithmetic hand on.

    Integers, such as tokens, stay as they are.

    Args:
      tree: a pytree of arrays.
      dtype: name of the arithmetic.
    """
    kind = jnp.bfloat16 if dtype == "bfloat16" else jnp.float32
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: x.astype(kind) if floating(x) else x, tree)
