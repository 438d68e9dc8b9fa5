"""Edges against plain array expressions, whose derivatives JAX makes."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dnas.nn.kernels.spread import pin, unstack, weigh


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def ours(x, weights):
    """Every edge has a cotangent of its own, but for the last, which has none."""
    images = unstack(weigh(pin(x), weights))
    return sum(jnp.sin((i + 1) * image) for i, image in enumerate(images[:-1]))


def theirs(x, weights):
    return sum(jnp.sin((i + 1) * x * w) for i, w in enumerate(weights[:-1]))


def derivatives(function):
    def loss(args):
        return jnp.square(function(*args)).sum()

    def everything(args, tangents):
        along = lambda args: jax.jvp(loss, (args,), (tangents,))[1]  # noqa: E731
        forward = jax.jvp(jax.value_and_grad(loss), (args,), (tangents,))
        # Reverse over reverse reaches the transposes of transposes.
        twice = jax.grad(lambda args: sum(jnp.sin(g).sum() for g in jax.grad(loss)(args)))(args)
        return function(*args), forward, jax.grad(along)(args), twice

    return everything


ARGS = normal(0, 2, 3, 5, 4), normal(1, 3)
TANGENTS = normal(2, 2, 3, 5, 4), normal(3, 3)


def test_derivatives():
    expected = derivatives(theirs)(ARGS, TANGENTS)
    chex.assert_trees_all_close(derivatives(ours)(ARGS, TANGENTS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0)])
def test_vmap(mapped):
    args = [a if m is None else jnp.stack([a, 2 * a]) for a, m in zip(ARGS, mapped, strict=True)]

    def gradients(function):
        grad = jax.grad(lambda *args: jnp.square(function(*args)).sum(), (0, 1))
        return jax.vmap(grad, mapped)(*args)

    chex.assert_trees_all_close(gradients(ours), gradients(theirs), rtol=1e-4, atol=1e-4)
