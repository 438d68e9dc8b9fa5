"""Programs hold the form of the platform they are made for, whatever machine makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from preset_steps import CELL, DARTS, TASK, batch, build

from dnas import presets, spaces, tasks
from dnas.nn.kernels import native
from dnas.nn.kernels.pool import avg_pool, max_pool
from dnas.nn.kernels.separable import separable
from dnas.nn.kernels.spread import weigh
from dnas.training.recipe import Recipe
from dnas.training.supervised import supervised

PRESETS = ("darts", "darts_second_order", "gdas", "drnas", "pc_darts", "i_darts")
ACCELERATORS = ["cuda", "tpu"]
built = pytest.mark.skipif(not native.ready(), reason="no native kernels: no C++ compiler")


def text(function, *arguments, platforms):
    """The exported program; JAX's own check lets native kernels pass on the CPU only."""
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in native.KERNELS]
    checks = checks if platforms == ["cpu"] else []
    exported = jax.export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)
    return exported(*arguments).mlir_module()


def check(function, *arguments, kernels=True):
    """One function, traced for accelerators and for the CPU, with native kernels and without.

    Those stand in the CPU's program alone, if the function has any.
    """
    assert "@dnas_" not in text(function, *arguments, platforms=ACCELERATORS)
    with native.disabled():
        assert "@dnas_" not in text(function, *arguments, platforms=["cpu"])
    if native.ready():
        assert ("@dnas_" in text(function, *arguments, platforms=["cpu"])) == kernels


def gradients(function):
    return jax.value_and_grad(lambda *args: jnp.sin(function(*args)).sum(), range(2))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda x, k: separable(x, k, jnp.ones((4, 3, 4))), ((2, 5, 5, 4), (3, 3, 4, 3))),
        (lambda x, y: max_pool(x) * y, ((2, 5, 5, 4), (2, 5, 5, 4))),
        (lambda x, y: avg_pool(x, 2) * y, ((2, 5, 5, 4), (2, 3, 3, 4))),
        (weigh, ((2, 5, 5, 4), (3,))),
    ],
    ids=["separable", "max_pool", "avg_pool", "weigh"],
)
def test_layers(function, arguments):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in arguments]
    check(gradients(function), *arguments)


def test_separable_convolutions_are_dense_on_accelerators():
    arguments = [
        jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 5, 5, 4), (3, 3, 4, 3), (4, 3, 6))
    ]
    for platform in ACCELERATORS:
        found = text(separable, *arguments, platforms=[platform])
        assert found.count("stablehlo.convolution") == 1
        assert "feature_group_count = 1 " in found


@built
def test_a_program_without_native_kernels_computes_the_same_elsewhere():
    """Exported for the CPU without them it passes JAX's check of what runs in any process."""
    x, depthwise = jnp.sin(jnp.arange(200.0)).reshape(2, 5, 5, 4), jnp.ones((3, 3, 4, 3)) / 9
    function = jax.jit(gradients(lambda x, d: separable(x, d, jnp.ones((4, 3, 4))) * 1e-1))
    with pytest.raises(ValueError, match="dnas_conv"):
        jax.export.export(function, platforms=["cpu"])(x, depthwise)
    with native.disabled():
        exported = jax.export.export(function, platforms=["cpu"])(x, depthwise)
    found = exported.call(x, depthwise)
    expected = function(x, depthwise)  # by the native kernels again
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("space", [CELL, DARTS], ids=["nas_bench_201", "darts"])
@pytest.mark.parametrize("preset", PRESETS)
def test_search_steps(preset, space):
    search = build(presets.PRESETS[preset](), space)
    state = jax.eval_shape(search.init, jax.random.key(0))
    check(search.step, state, batch(), batch())


TRAININGS = {
    "nas_bench_201": (CELL, TASK),
    "darts": (DARTS, TASK),
    "segmentation": (CELL, tasks.Segmentation((8, 8, 1), 3)),
    "regression": (spaces.Dense(depth=2), tasks.Regression(("a", "b", "c"))),
    "language": (spaces.Recurrent(channels=4, nodes=2), tasks.LanguageModelling(7, length=5)),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_steps_of_networks(name):
    space, task = TRAININGS[name]
    genotype = space.sample(np.random.default_rng(1))
    recipe = Recipe(epochs=1, batch_size=2, learning_rate=0.1)
    training = supervised(space, genotype, task, recipe, total_steps=2)
    state = jax.eval_shape(training.init, jax.random.key(0))
    check(training.step, state, tasks.batch_of(task.examples, 2), kernels=space in (CELL, DARTS))
