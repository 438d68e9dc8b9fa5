"""In which numbers networks compute."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dnas
from dnas import arithmetic
from dnas.gradient import hypergrad, relax
from dnas.gradient.bilevel import bilevel
from dnas.parts import part
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification
from dnas.training.published import nas_bench_201_recipe

TASK = Classification((8, 8, 3), 3)
BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8),
    "label": np.array([0, 1, 2, 0], np.int32),
}


def make(dtype, space=None):
    return bilevel(
        space or NASBench201(channels=4, cells=1, stages=1),
        TASK,
        relaxation=relax.softmax(),
        hypergradient=hypergrad.first_order(),
        weight_optimizer=optax.sgd(0.1, momentum=0.9),
        alpha_optimizer=optax.adam(0.01),
        dtype=dtype,
    )


def lowered(search, name="step"):
    state = jax.eval_shape(search.init, jax.random.key(0))
    return jax.jit(getattr(search, name)).lower(state, BATCH, BATCH).as_text()


def lines_of(search, *operations):
    return [line for line in lowered(search).splitlines() if any(o in line for o in operations)]


def states(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize(
    "space", [NASBench201(channels=4, cells=1, stages=1), DARTS(channels=2, cells=3, nodes=1)]
)
def test_bfloat16_is_in_the_networks_alone(space):
    search = make("bfloat16", space)
    state = jax.eval_shape(search.init, jax.random.key(0))
    new, metrics = jax.eval_shape(search.step, state, BATCH, BATCH)
    for tree in (new.params, new.alphas, new.weight_opt, new.alpha_opt, metrics):
        assert states(tree) <= {"float32", "int32"}
    convolutions = lines_of(search, "stablehlo.convolution")
    assert convolutions and all("bf16" in line and "f32" not in line for line in convolutions)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "HIGHEST"), ("tf32", "HIGH")])
def test_products_say_their_precision(dtype, precision):
    """Without a say, JAX rounds to TF32 on GPUs and to bfloat16 on TPUs."""
    said = lines_of(make(dtype), "stablehlo.convolution", "stablehlo.dot_general")
    assert said
    for line in said:
        assert re.findall(r"(?:HIGH|DEFAULT)\w*", line) == [precision, precision]


def moved(dtype):
    """What a step adds to the weights, in one vector."""
    search = make(dtype)
    state = jax.jit(search.init)(jax.random.key(0))
    new, _ = jax.jit(search.step)(state, BATCH, BATCH)
    difference = jax.tree.map(lambda a, b: a - b, new.params, state.params)
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(difference)])


def test_tf32_is_float32_on_a_cpu():
    np.testing.assert_array_equal(moved("float32"), moved("tf32"))


def test_a_search_in_bfloat16_moves_as_one_in_float32():
    full, half = moved("float32"), moved("bfloat16")
    assert not np.array_equal(full, half)
    cosine = full @ half / np.linalg.norm(full) / np.linalg.norm(half)
    assert cosine > 0.99


def test_eigenvalues_are_float32_whatever_the_search():
    full, half = (lowered(make(dtype), "eigenvalue") for dtype in ("float32", "bfloat16"))
    assert full == half and "bf16" not in full


def test_finite_differences_are_refused_in_bfloat16():
    with pytest.raises(ValueError, match=r"dtype='bfloat16'.*with finite_difference"):
        dnas.presets.darts(hypergradient=part(hypergrad.finite_difference), dtype="bfloat16")


def test_unknown_arithmetics_are_named():
    for make_one in (
        lambda: dnas.presets.darts(dtype="float16"),
        lambda: nas_bench_201_recipe(dtype="float16"),
        lambda: make("float16"),
    ):
        with pytest.raises(ValueError, match=r"dtype='float16': expected one of float32, tf32, bf"):
            make_one()


def test_casts_leave_integers():
    tree = {"tokens": jnp.zeros(2, jnp.int32), "x": jnp.ones(2)}
    assert {k: str(v.dtype) for k, v in arithmetic.cast(tree, "bfloat16").items()} == {
        "tokens": "int32",
        "x": "bfloat16",
    }
    assert states(arithmetic.cast(tree, "tf32")) == {"int32", "float32"}
