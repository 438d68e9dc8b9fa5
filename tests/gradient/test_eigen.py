"""Lanczos against dense eigendecompositions."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.gradient import eigen

LIKE = {"a": jnp.zeros((4, 5)), "b": jnp.zeros((2, 5))}  # 30 numbers
SIZE = 30


@functools.partial(jax.jit, static_argnums=1)
def largest(matrix, iterations):
    def product(tree):
        flat, unflatten = jax.flatten_util.ravel_pytree(tree)
        return unflatten(matrix @ flat)

    return eigen.dominant_eigenvalue(product, LIKE, jax.random.key(0), iterations)


def with_eigenvalues(values):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
    return jnp.asarray(basis @ np.diag(values) @ basis.T, jnp.float32)


def test_exact_with_all_iterations_and_a_lower_bound_with_fewer():
    matrix = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    matrix = jnp.asarray(matrix + matrix.T, jnp.float32)
    dense = np.linalg.eigvalsh(np.asarray(matrix, np.float64))[-1]
    np.testing.assert_allclose(largest(matrix, SIZE), dense, rtol=1e-5)
    assert largest(matrix, 5) < 0.97 * dense
    apart = with_eigenvalues([10.0, *np.linspace(-1, 1, SIZE - 1)])
    np.testing.assert_allclose(largest(apart, 5), 10, rtol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        [3.0] + [0.0] * 29,
        [-5.0] + [2.0] * 29,
        [7.0, 7.0, 1.0] + [-20.0] * 27,
        [0.0] * 30,
        [4.0] * 30,
        [1e-6, 5e-7] + [0.0] * 28,
    ],
)
def test_invariant_subspaces_end_no_search(values):
    # Few distinct eigenvalues: what the products span is invariant after as many steps. The
    # largest is meant, not the largest in magnitude.
    for iterations in (5, SIZE):
        found = largest(with_eigenvalues(values), iterations)
        atol = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(found, max(values), rtol=1e-5, atol=atol)


def test_products_with_the_hessian_of_a_loss_that_only_differentiates_reverse_over_forward():
    # Supernets hold operations with a derivative of their own, whose inside has no forward mode.
    @jax.custom_jvp
    def cube(x):
        return x**3

    @jax.custom_vjp
    def slope(x):
        return 3 * x**2

    slope.defvjp(lambda x: (slope(x), x), lambda x, g: (g * 6 * x,))
    cube.defjvp(lambda primals, tangents: (cube(*primals), slope(*primals) * tangents[0]))
    weights = jax.tree.map(lambda x, k: jax.random.normal(k, x.shape), LIKE, keys(LIKE))
    at = jax.tree.map(lambda x, k: jax.random.normal(k, x.shape), LIKE, keys(LIKE, 1))

    def loss(tree):
        return sum((weights[n] * cube(tree[n])).sum() for n in tree) + tree["a"].sum() ** 2

    def plain(flat):
        tree = jax.flatten_util.ravel_pytree(LIKE)[1](flat)
        return sum((weights[n] * tree[n] ** 3).sum() for n in tree) + tree["a"].sum() ** 2

    dense = np.asarray(
        jax.jit(jax.hessian(plain))(jax.flatten_util.ravel_pytree(at)[0]), np.float64
    )

    @jax.jit
    def found(at, vector, key):
        product = eigen.hessian_vector_product(loss, at)
        return product(vector), eigen.dominant_eigenvalue(product, at, key, SIZE)

    product, value = found(at, weights, jax.random.key(5))
    flat = jax.flatten_util.ravel_pytree(weights)[0]
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(product)[0], dense @ flat, rtol=1e-4)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(dense)[-1], rtol=1e-5)


def keys(tree, seed=0):
    return dict(zip(tree, jax.random.split(jax.random.key(seed), len(tree)), strict=True))


def test_iterations_are_checked():
    with pytest.raises(ValueError, match="iterations=0"):
        eigen.dominant_eigenvalue(lambda v: v, LIKE, jax.random.key(0), 0)


@pytest.mark.parametrize(
    ("like", "found"), [({}, "0 of"), (jnp.zeros(3, jnp.bfloat16), "3 of bfloat16")]
)
def test_dimensions_and_precision_are_checked(like, found):
    with pytest.raises(ValueError, match=f"float32 or float64, got {found}"):
        eigen.dominant_eigenvalue(lambda v: v, like, jax.random.key(0))
