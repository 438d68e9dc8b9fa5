"""The convolution primitive against JAX's own convolution, in values and all derivatives."""

import contextlib

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax

from dnas.nn.kernels import native
from dnas.nn.kernels.conv import conv

CASES = [  # kernel, stride, dilation, padding, height, width
    (3, 1, 1, None, 6, 5),
    (3, 2, 1, None, 7, 6),
    (5, 2, 2, None, 9, 8),
    (1, 1, 1, None, 4, 4),
    (1, 2, 1, None, 5, 5),
    (2, 1, 1, 0, 5, 4),
    (1, 1, 1, None, 1, 1),
    (1, 2, 1, 1, 3, 3),  # the size stays, but no pixel is where it was
]


def reference(x, kernel, stride, dilation, padding):
    size = kernel.shape[0]
    pad = dilation * (size - 1) // 2 if padding is None else padding
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("native_kernels", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_matches_jax_in_values_and_derivatives(case, native_kernels):
    with contextlib.nullcontext() if native_kernels else native.disabled():
        check_values_and_derivatives(case)


def check_values_and_derivatives(case):
    size, stride, dilation, padding, height, width = case
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (3, height, width, 2))
    kernel = jax.random.normal(keys[1], (size, size, 2, 4))
    dx, dkernel = (
        jax.random.normal(k, a.shape) for k, a in zip(keys[2:], (x, kernel), strict=True)
    )

    def everything(f):
        # The sine makes the loss nonlinear, so that second derivatives are not zero.
        def loss(x, kernel):
            return jnp.sin(f(x, kernel)).sum()

        def product(x, kernel):
            return jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), (dx, dkernel))

        @jax.jit
        def all_of_them(x, kernel):
            (gradient, forward_over_reverse) = product(x, kernel)
            directional = lambda *a: jax.jvp(loss, a, (dx, dkernel))[1]  # noqa: E731
            return {
                "value": f(x, kernel),
                "gradient": gradient,
                "forward over reverse": forward_over_reverse,
                "reverse over forward": jax.grad(directional, (0, 1))(x, kernel),
                "jvp": jax.jvp(f, (x, kernel), (dx, dkernel))[1],
            }

        return all_of_them(x, kernel)

    ours = everything(lambda x, k: conv(x, k, stride=stride, dilation=dilation, padding=padding))
    theirs = everything(lambda x, k: reference(x, k, stride, dilation, padding))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0), (1, 3)])
def test_vmap(mapped):
    x = jax.random.normal(jax.random.key(0), (2, 2, 5, 5, 3))
    kernel = jax.random.normal(
        jax.random.key(1), (3, 3, 3, 2, 2) if mapped[1] == 3 else (2, 3, 3, 3, 2)
    )
    x = x if mapped[0] is not None else x[0]
    kernel = kernel if mapped[1] is not None else kernel[0]

    def gradients(f):
        def loss(x, kernel):
            return jnp.sin(f(x, kernel)).sum()

        return jax.vmap(jax.value_and_grad(loss, (0, 1)), mapped)(x, kernel)

    chex.assert_trees_all_close(
        gradients(conv), gradients(lambda x, k: reference(x, k, 1, 1, None)), rtol=1e-4, atol=1e-4
    )


def test_keeps_the_dtype_of_the_images():
    x, kernel = jnp.ones((1, 4, 4, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1))
    assert conv(x, kernel).dtype == jnp.bfloat16
    gradient = jax.grad(lambda k: conv(x, k).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == jnp.float32
