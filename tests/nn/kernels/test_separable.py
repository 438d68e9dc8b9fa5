"""Separable convolutions against XLA's two, whose derivatives JAX makes."""

import contextlib
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dnas.nn.kernels import native
from dnas.nn.kernels.separable import separable


def normal(seed, *shape):
    return 0.4 * jax.random.normal(jax.random.key(seed), shape)


def assert_close(ours, theirs):
    """To the rounding of the largest number of each array."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def plain(x, depthwise, pointwise, *, stride=1, dilation=1):
    """Edge by edge."""

    def one(x, depthwise, pointwise):
        pad = dilation * (len(depthwise) - 1) // 2
        y = lax.conv_general_dilated(
            *(x, depthwise[:, :, None], (stride, stride), [(pad, pad)] * 2),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
        )
        return y @ pointwise

    axes = (None if x.ndim == 4 else 3, 3, 1)
    return jax.vmap(one, axes, 3)(x, depthwise, pointwise)


def args(shared):
    x = normal(0, 2, 5, 6, 4) if shared else normal(0, 2, 5, 6, 3, 4)
    return x, normal(1, 3, 3, 4, 3), normal(2, 4, 3, 5)


def derivatives(function):
    def loss(args):
        return jnp.sin(function(*args)).sum()

    def everything(args):
        gradient = jax.grad(loss)(args)
        forward = jax.jvp(jax.grad(loss), (args,), (gradient,))[1]
        # Reverse over reverse reaches the transposes of transposes.
        twice = jax.grad(lambda args: sum(jnp.sin(g).sum() for g in jax.grad(loss)(args)))(args)
        return function(*args), gradient, forward, twice

    return jax.jit(everything, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("form", ["native", "dense"])
@pytest.mark.parametrize(
    ("shared", "settings"), [(True, {"stride": 2}), (False, {"stride": 2}), (True, {"dilation": 2})]
)
def test_derivatives(shared, settings, form):
    expected = derivatives(functools.partial(plain, **settings))(args(shared))
    with contextlib.nullcontext() if form == "native" else native.disabled():
        found = derivatives(functools.partial(separable, **settings))(args(shared))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    assert_close(found, expected)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mapped", [(0, None, None), (None, 0, 0), (0, None, 0), (None, 0, None)])
def test_vmap(mapped, shared):
    batch = [
        a if m is None else jnp.stack([a, 2 * a]) for a, m in zip(args(shared), mapped, strict=True)
    ]

    def gradients(function):
        grad = jax.value_and_grad(lambda *args: jnp.sin(function(*args)).sum(), (0, 1, 2))
        one = jax.vmap(grad, mapped)
        # The gradient of a map has the rule of each derivative, and the derivatives of each rule.
        mapped_then = jax.grad(
            lambda *batch: jax.vmap(lambda *a: jnp.sin(function(*a)).sum(), mapped)(*batch).sum(),
            (0, 1, 2),
        )
        return jax.jit(lambda *batch: (one(*batch), mapped_then(*batch)))(*batch)

    assert_close(gradients(separable), gradients(plain))
