"""The batch normalisation of discrete networks against its formulas in float64 NumPy."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas.nn.kernels import native
from dnas.nn.kernels.norm import EPSILON
from dnas.nn.layers import batch_statistics, running

KERNELS = {"native": contextlib.nullcontext, "xla": native.disabled}


def expected(x, scale, bias, weights):
    """Outputs, and the gradients in input and scale of their sum with these weights."""
    axes = tuple(range(x.ndim - 1))
    deviation = np.sqrt(x.var(axes) + EPSILON)
    normal = (x - x.mean(axes)) / deviation
    parts = weights.mean(axes) + normal * (weights * normal).mean(axes)
    gradient = scale / deviation * (weights - parts)
    return normal * scale + bias, gradient, (weights * normal).sum(axes)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("ratio", [1, 100, 1000])  # of mean and standard deviation
def test_outputs_gradients_and_running_averages(ratio, kernels):
    rng = np.random.default_rng(ratio)
    x, weights = rng.normal(size=(2, 4, 3, 5, 6)).astype(np.float32)
    x += np.float32(ratio)
    scale, bias = rng.normal(size=(2, 6)).astype(np.float32)
    norm = running(nnx.Rngs(0))(6)
    graph, state = nnx.split(norm)
    state = nnx.to_pure_dict(state)

    def loss(x, scale):
        norm = nnx.merge(graph, nnx.State(state | {"scale": scale, "bias": jnp.asarray(bias)}))
        y = norm(x)
        return (y * weights).sum(), (y, norm.mean[...], norm.var[...])

    with KERNELS[kernels]():
        gradients, (y, mean, var) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, scale)
    exact = x.astype(np.float64)
    values = expected(exact, scale, bias, weights.astype(np.float64))
    # What float32 can hold: the input's last digit is 6e-8 of its mean.
    last = 4e-6 + 1e-6 * ratio
    for ours, theirs, atol in zip((y, *gradients), values, (last, last, 10 * last), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=atol)
    np.testing.assert_allclose(mean, 0.1 * exact.mean((0, 1, 2)), rtol=1e-6)
    unbiased = exact.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(var, 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_running_averages_normalise_inputs_of_any_rank():
    norm = running(nnx.Rngs(0))(3)
    norm.mean[...], norm.var[...] = jnp.array([100.0, 0, 1]), jnp.array([4.0, 1, 9])
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    expected = (x - [100, 0, 1]) / np.sqrt(np.array([4, 1, 9]) + EPSILON)
    np.testing.assert_allclose(norm(x, use_running_average=True), expected, rtol=1e-5, atol=1e-6)
    one = norm(x[:, 0], use_running_average=True)
    np.testing.assert_allclose(one, expected[:, 0], rtol=1e-5, atol=1e-6)
    assert norm(x.astype(jnp.bfloat16), use_running_average=True).dtype == jnp.bfloat16


def test_supernets_normalise_as_exactly():
    x = np.random.default_rng(0).normal(1000, 1, (4, 3, 5, 6)).astype(np.float32)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + EPSILON)
    np.testing.assert_allclose(batch_statistics()(6)(x), expected, atol=1e-3)
