"""Maps onto the simplex that give exact zeros, with their derivatives in closed form.

Both act on the last axis. Their derivatives differentiate again, in forward and reverse mode,
which differentiation through the sorting that finds the threshold would not do in a stable way.
"""

import jax
import jax.numpy as jnp


def _descending(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The values of each row from the largest on, and their ranks from one on."""
    return -jnp.sort(-x, -1), jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)


@jax.custom_jvp
def sparsemax(x: jax.Array) -> jax.Array:
    """The point of the simplex nearest to each row (Martins and Astudillo, 2016).

    Args:
      x: ``[..., options]``.
    """
    x = x - x.max(-1, keepdims=True)
    z, rank = _descending(x)
    above = z.cumsum(-1) - 1
    support = (rank * z > above).sum(-1, keepdims=True)
    threshold = jnp.take_along_axis(above, support - 1, -1) / support
    return jnp.maximum(x - threshold, 0)


@sparsemax.defjvp
def _sparsemax_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    p = sparsemax(x)
    support = jnp.sign(p)
    mean = (support * dx).sum(-1, keepdims=True) / support.sum(-1, keepdims=True)
    return p, support * (dx - mean)


@jax.custom_jvp
def entmax15(x: jax.Array) -> jax.Array:
    """The 1.5-entmax of each row (Peters, Niculae and Martins, 2019).

    ``max(x / 2 - threshold, 0)**2`` with the threshold at which rows sum to one: between softmax
    and sparsemax.

    Args:
      x: ``[..., options]``.
    """
    x = (x - x.max(-1, keepdims=True)) / 2
    z, rank = _descending(x)
    mean = z.cumsum(-1) / rank
    scatter = jnp.square(z).cumsum(-1) - rank * jnp.square(mean)
    thresholds = mean - jnp.sqrt(jnp.maximum((1 - scatter) / rank, 0))
    support = (thresholds <= z).sum(-1, keepdims=True)
    threshold = jnp.take_along_axis(thresholds, support - 1, -1)
    return jnp.square(jnp.maximum(x - threshold, 0))


@entmax15.defjvp
def _entmax15_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    p = entmax15(x)
    # The root of zero has no derivative: keep it out of further differentiation.
    root = jnp.where(p > 0, jnp.sqrt(jnp.where(p > 0, p, 1)), 0 * p)
    mean = (root * dx).sum(-1, keepdims=True) / root.sum(-1, keepdims=True)
    return p, root * (dx - mean)
