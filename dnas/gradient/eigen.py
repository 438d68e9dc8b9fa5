"""The dominant eigenvalue of a Hessian, from its products with vectors.

RobustDARTS (Zela et al., 2020) watches the largest eigenvalue of the Hessian of the validation
loss in alphas: where it grows, discretizing costs most.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from dnas import checks

Tree = Any


def hessian_vector_product(loss: Callable[[Tree], jax.Array], at: Tree) -> Callable[[Tree], Tree]:
    """The function ``vector -> Hessian @ vector`` of a loss.

    The gradient of a directional derivative: reverse over forward, the one order that all of a
    supernet's operations can be differentiated in.

    Args:
      loss: maps a pytree to a scalar.
      at: where the Hessian is taken.
    """

    def product(vector: Tree) -> Tree:
        return jax.grad(lambda x: jax.jvp(loss, (x,), (vector,))[1])(at)

    return product


def dominant_eigenvalue(
    product: Callable[[Tree], Tree], like: Tree, key: jax.Array, iterations: int = 20
) -> jax.Array:
    """The algebraically largest eigenvalue of a symmetric matrix, as RobustDARTS takes it.

    Lanczos' method with full reorthogonalisation. It is exact, up to rounding, with as many
    iterations as dimensions; a lower bound with fewer, which is close long before.

    Args:
      product: multiplies the matrix by a vector, a pytree like `like`; it is traced once.
      like: a pytree of arrays that shows structure, shapes and dtypes.
      key: a PRNG key, for the vector to begin with.
      iterations: number of products; no more than there are dimensions are taken.

    Returns:
      A scalar.

    Raises:
      ValueError: there are no iterations or no dimensions, or numbers have fewer than 32 bits.
    """
    checks.whole("iterations", iterations)
    flat, unflatten = ravel_pytree(like)
    if not flat.size or jnp.finfo(flat.dtype).bits < 32:
        raise ValueError(f"like: expected float32 or float64, got {flat.size} of {flat.dtype}")
    count = min(iterations, flat.size)
    tolerance = 10 * jnp.finfo(flat.dtype).eps

    def fresh(key, basis):
        """A random unit vector orthogonal to the basis."""
        vector = jax.random.normal(key, flat.shape, flat.dtype)
        return _unit(_orthogonal(_unit(vector), basis))

    def iterate(carry, i):
        basis, vector, scale = carry
        basis = basis.at[i].set(vector)
        image = ravel_pytree(product(unflatten(vector)))[0]
        diagonal = vector @ image
        residual = _orthogonal(image, basis)
        size = jnp.linalg.norm(residual)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        # What the products have spanned is invariant where nothing but rounding is left. Then
        # the tridiagonal matrix falls into blocks, and the next begins at a new vector.
        broken = size <= tolerance * scale
        following = jnp.where(
            broken,
            fresh(jax.random.fold_in(key, i), basis),
            _unit(_orthogonal(residual / jnp.where(broken, 1, size), basis)),
        )
        return (basis, following, scale), (diagonal, jnp.where(broken, 0, size))

    basis = jnp.zeros((count, flat.size), flat.dtype)
    first = fresh(jax.random.fold_in(key, count), basis)
    carry = (basis, first, jnp.zeros((), flat.dtype))
    _, (diagonal, beside) = lax.scan(iterate, carry, jnp.arange(count))
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    return jnp.linalg.eigvalsh(tridiagonal)[-1]


def _unit(vector: jax.Array) -> jax.Array:
    # Behind the last dimension there is no vector left: no NaN then.
    return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)


def _orthogonal(vector: jax.Array, basis: jax.Array) -> jax.Array:
    """The part of a vector orthogonal to the rows of a basis; a second pass removes rounding."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
