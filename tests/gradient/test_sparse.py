"""Sparsemax and entmax against optimisation over the simplex, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.gradient import sparse

MAPS = {"sparsemax": (sparse.sparsemax, 2.0), "entmax15": (sparse.entmax15, 1.5)}
ROWS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(6, 5)) * 1.5,
        [[0.0, 0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0, 0.0], [100.5, 100.0, 99.9, 0.0, -100.0]],
    ]
).astype(np.float32)


def by_bisection(row, alpha):
    """The maximiser of ``p'x + H_alpha(p)`` on the simplex: its threshold, bisected.

    The optimality conditions of Tsallis' entropy are ``p = max((alpha - 1) x - t, 0)**(1 /
    (alpha - 1))`` with rows that sum to one (Peters et al., 2019), in float64.
    """
    x = (alpha - 1) * np.asarray(row, np.float64)
    low, high = x.max() - 1, x.max()
    for _ in range(100):
        t = (low + high) / 2
        p = np.maximum(x - t, 0) ** (1 / (alpha - 1))
        low, high = (t, high) if p.sum() > 1 else (low, t)
    return p


def objective(p, row, alpha):
    entropy = (p - p**alpha).sum(-1) / (alpha * (alpha - 1))
    return p @ row.astype(np.float64) + entropy


@pytest.mark.parametrize("name", MAPS)
def test_values_maximise_on_the_simplex(name):
    function, alpha = MAPS[name]
    found = np.asarray(jax.jit(function)(ROWS), np.float64)
    points = np.random.default_rng(1).dirichlet(np.full(5, 0.5), size=20_000)
    for row, p in zip(ROWS, found, strict=True):
        np.testing.assert_allclose(p, by_bisection(row, alpha), atol=2e-6)
        assert objective(p, row, alpha) >= objective(points, row, alpha).max() - 1e-5
    np.testing.assert_array_equal(found[7], [1, 0, 0, 0, 0])
    assert (found[:6] == 0).any()


@pytest.mark.parametrize("name", MAPS)
def test_jacobians_and_second_derivatives_are_those_of_finite_differences(name):
    function, alpha = MAPS[name]
    weights = jnp.array([0.3, -1.0, 2.0, 0.7, -0.4])

    def loss(row):
        return (weights * function(row) ** 2).sum()

    forward = jax.jit(jax.vmap(jax.jacfwd(function)))(ROWS[:6])
    reverse = jax.jit(jax.vmap(jax.jacrev(function)))(ROWS[:6])
    hessian = jax.jit(jax.vmap(jax.hessian(loss)))(ROWS[:6])
    gradient = jax.jit(jax.grad(loss))
    for i, row in enumerate(ROWS[:6]):
        h = 1e-6
        steps = h * np.eye(5)
        wide = row.astype(np.float64)
        numeric = [
            (by_bisection(wide + s, alpha) - by_bisection(wide - s, alpha)) / (2 * h) for s in steps
        ]
        np.testing.assert_allclose(forward[i], np.transpose(numeric), atol=1e-4)
        np.testing.assert_allclose(reverse[i], np.transpose(numeric), atol=1e-4)
        h = 3e-3
        numeric = [(gradient(row + h * e) - gradient(row - h * e)) / (2 * h) for e in np.eye(5)]
        np.testing.assert_allclose(hessian[i], numeric, atol=5e-3)
