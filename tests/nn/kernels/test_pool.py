"""Poolings against XLA's window reductions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dnas.nn.kernels import pool

WINDOW, PADDING = (1, 3, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0))


def reference_max(x, stride):
    return lax.reduce_window(x, -jnp.inf, lax.max, WINDOW, (1, stride, stride, 1), PADDING)


def reference_avg(x, stride):
    def total(y):
        return lax.reduce_window(y, 0.0, lax.add, WINDOW, (1, stride, stride, 1), PADDING)

    return total(x) / total(jnp.ones_like(x))


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 5, 1), (1, 1, 2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(pool.max_pool, reference_max), (pool.avg_pool, reference_avg)]
)
def test_pooling_and_its_gradient(shape, stride, ours, theirs):
    x = jax.random.normal(jax.random.key(0), shape)
    for f in (lambda p: p(x, stride), lambda p: jax.grad(lambda x: jnp.sin(p(x, stride)).sum())(x)):
        chex.assert_trees_all_close(f(ours), f(theirs), rtol=1e-5, atol=1e-6)


def test_halve_takes_what_is_left_at_odd_ends():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    expected = np.array([[2.5, 4.5], [8.5, 10.5]])
    np.testing.assert_allclose(pool.halve(x)[0, ..., 0], expected)
