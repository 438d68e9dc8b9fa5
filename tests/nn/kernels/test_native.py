"""Native kernels against the plain path beside them, in values and all derivatives."""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.nn.kernels import native, pool
from dnas.nn.kernels.conv import conv
from dnas.nn.kernels.depthwise import depthwise_conv
from dnas.nn.kernels.norm import batch_norm
from dnas.nn.kernels.separable import separable
from dnas.nn.kernels.spread import pin, unstack, weigh

built = pytest.mark.skipif(
    not native.ready() or jax.default_backend() != "cpu",
    reason="no native kernels: they need a CPU as JAX's default backend and a C++ compiler",
)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def both(function, *args):
    """What a function computes with native kernels, and without: compiled anew for each."""
    fast = jax.jit(lambda *args: function(*args)).lower(*args)
    assert "dnas_" in fast.as_text(), "no native kernel in the program"
    with native.disabled():
        slow = jax.jit(lambda *args: function(*args)).lower(*args)
    assert "@dnas_" not in slow.as_text()
    quickly = {"xla_backend_optimization_level": 0}
    return tuple(program.compile(quickly)(*args) for program in (fast, slow))


def derivatives(function):
    """First and second derivatives, the latter by both orders of the two modes."""

    def loss(args):  # its gradient has the values as cotangents
        return jnp.square(function(*args)).sum() / 2

    def everything(args, tangents):
        values, changes = jax.jvp(jax.value_and_grad(loss), (args,), (tangents,))
        directional = lambda args: jax.jvp(loss, (args,), (tangents,))[1]  # noqa: E731
        return {
            "loss and gradient": values,
            "forward mode, forward over reverse": changes,
            "reverse over forward": jax.grad(directional)(args),
        }

    return everything


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


def compare(function, *args):
    tangents = tuple(normal(9 + i, *a.shape) for i, a in enumerate(args))
    ours, theirs = both(derivatives(function), args, tangents)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    assert_close(ours, theirs)


CONVOLUTIONS = {  # images, kernel, settings
    "three wide, odd": ((2, 5, 7, 16), (3, 3, 16, 48), {}),
    "three wide, even, no padding": ((3, 4, 6, 8), (3, 3, 8, 16), {"padding": 0}),
    "odd channels": ((2, 5, 6, 3), (3, 3, 3, 19), {}),
    "three wide, not high": ((2, 5, 4, 4), (1, 3, 4, 40), {"padding": 1}),
    "one wide": ((1, 4, 5, 16), (1, 1, 16, 16), {}),
    "five wide, dilated": ((2, 9, 8, 3), (5, 5, 3, 8), {"dilation": 2}),
    "stride": ((2, 7, 6, 5), (3, 3, 5, 24), {"stride": 2}),
    "stride, one wide": ((2, 5, 5, 4), (1, 1, 4, 17), {"stride": 2}),
    "groups, batch of one": ((1, 5, 5, 6), (3, 3, 2, 9), {"groups": 3}),
    "many channels": ((1, 3, 3, 70), (1, 1, 70, 33), {}),
    "several images a thread": ((64, 4, 5, 3), (3, 3, 3, 5), {"stride": 2}),
}


@built
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case):
    image, kernel, settings = CONVOLUTIONS[case]
    compare(functools.partial(conv, **settings), normal(0, *image), normal(1, *kernel))


@built
@pytest.mark.parametrize(
    ("channels", "repeats", "size", "settings"),
    [
        (16, 3, 3, {}),
        (3, 1, 3, {"stride": 2}),
        (12, 2, 5, {"dilation": 2}),
        (200, 1, 3, {}),  # a block that is cut off reaches far past the image
    ],
)
def test_depthwise(channels, repeats, size, settings):
    """Its first derivative in the images sums over the repeats, the second repeats again."""
    function = functools.partial(depthwise_conv, **settings)
    compare(function, normal(0, 2, 5, 6, channels), normal(1, size, size, repeats * channels))


@built
@pytest.mark.parametrize(("shared", "settings"), [(True, {"stride": 2}), (False, {"dilation": 2})])
def test_separable(shared, settings):
    x = normal(0, 2, 7, 6, 4) if shared else normal(0, 2, 7, 6, 3, 4)
    compare(functools.partial(separable, **settings), x, normal(1, 3, 3, 4, 3), normal(2, 4, 3, 4))


@built
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pooling", [pool.max_pool, pool.avg_pool])
def test_pooling(pooling, stride):
    compare(lambda x: pooling(x, stride), normal(0, 2, 7, 5, 12))


@built
@pytest.mark.parametrize("shape", [(2, 4, 5, 3, 4), (1, 3, 3, 16)])
def test_batch_norm(shape):
    gain = normal(1, *shape[3:-1], 1)
    compare(batch_norm, 3 + normal(0, *shape), gain)


@built
@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (2, 5, 3, 16), (3, 19, 19, 4)])
def test_edges(shape):  # the last has more pixels than a block
    def function(x, weights):
        first, second, _ = unstack(weigh(pin(x), weights))
        return first * second

    compare(function, normal(0, *shape), normal(1, 3))


@built
@pytest.mark.parametrize(
    ("function", "shapes", "mapped"),
    [
        (conv, [(2, 4, 5, 3), (3, 3, 3, 5)], (0, None)),
        (conv, [(2, 4, 5, 3), (3, 3, 3, 5)], (None, 0)),
        (functools.partial(conv, groups=2), [(2, 4, 5, 4), (1, 1, 2, 6)], (0, 0)),
        (depthwise_conv, [(2, 4, 5, 3), (3, 3, 6)], (0, None)),
        (depthwise_conv, [(2, 4, 5, 3), (3, 3, 6)], (0, 0)),
        (batch_norm, [(2, 4, 5, 2, 3), (2, 1)], (None, 0)),
    ],
)
def test_vmap(function, shapes, mapped):
    def gradients(*args):
        def loss(*args):
            return jnp.square(function(*args)).sum()

        return jax.value_and_grad(loss, (0, 1))(*args)

    args = [
        normal(i, *([2] if axis == 0 else []), *shape)
        for i, (shape, axis) in enumerate(zip(shapes, mapped, strict=True))
    ]
    assert_close(*both(jax.vmap(gradients, mapped), *args))


@built
def test_vmap_of_pooling():
    compare(jax.vmap(pool.max_pool), normal(0, 2, 2, 4, 5, 3))


@built
def test_the_gradient_of_a_maximum_goes_to_one_of_equal_pixels():
    x = jnp.zeros((1, 3, 3, 2)).at[0, 1, 1, 1].set(jnp.nan)
    gradient = jax.grad(lambda x: pool.max_pool(x)[:, 1, 1, 0].sum())(x)
    assert sorted(np.ravel(gradient)) == [0] * 17 + [1]
    assert jnp.isnan(pool.max_pool(x)[..., 1]).all()  # never hidden


@built
def test_empty_batches_and_other_dtypes_take_the_plain_path():
    kernel = jnp.ones((3, 3, 2, 4))
    assert conv(jnp.ones((0, 4, 4, 2)), kernel).shape == (0, 4, 4, 4)
    assert conv(jnp.ones((1, 4, 4, 2), jnp.bfloat16), kernel).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: weigh(x, jnp.ones(3)).sum())(jnp.zeros((0, 3, 3, 2)))
    assert gradient.shape == (0, 3, 3, 2)


PROGRAM = """
import hashlib, jax, jax.numpy as jnp
from dnas.nn.kernels import native
from dnas.nn.kernels.conv import conv
from dnas.nn.kernels.norm import batch_norm
def loss(x, kernel):
    return jnp.square(batch_norm(conv(x, kernel))).sum() + jnp.sin(conv(x, kernel)).sum()
x, kernel = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(
    [(11, 6, 7, 5), (3, 3, 5, 9)]))
bits = b"".join(a.tobytes() for a in jax.jit(jax.grad(loss, (0, 1)))(x, kernel))
print(native.ready(), hashlib.sha256(bits).hexdigest())
"""


def run(**environment):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-2:]


@built
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    results = [run(NPROC=str(threads)) for threads in (1, 3)]
    assert results[0] == results[1]
    assert results[0][0] == "True"


@pytest.fixture
def fresh():
    native._load.cache_clear()
    yield
    native._load.cache_clear()


def test_environment_variable_switches_them_off(monkeypatch, fresh):
    monkeypatch.setenv("DNAS_NATIVE", "0")
    assert not native.ready()


def test_without_a_compiler_the_plain_path_takes_over(monkeypatch, fresh):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        assert not native.ready()
    x, kernel = normal(0, 1, 4, 4, 2), normal(1, 3, 3, 2, 2)
    assert "@dnas_" not in jax.jit(lambda *a: conv(*a)).lower(x, kernel).as_text()


def test_a_compiler_that_fails_is_reported(monkeypatch, fresh, tmp_path):
    monkeypatch.setenv("CXX", sys.executable)  # exists, knows --version, compiles nothing
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="DNAS_NATIVE=0 silences this"):
        assert not native.ready()
    assert not list(tmp_path.rglob("*.so"))


@built
def test_a_damaged_library_is_built_again(monkeypatch, fresh, tmp_path):
    built_at = []

    def build(command, _run=native._run):
        if "-o" not in command:
            return _run(command)
        built_at.append(command[-1])
        pathlib.Path(command[-1]).write_bytes(whole)
        return ""

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = b"a library" * 1000
    monkeypatch.setattr(native, "_run", build)
    compiler = [next(filter(native.shutil.which, ("c++", "g++", "clang++")))]
    path = native._build(compiler)
    assert native._build(compiler) == path and len(built_at) == 1
    for damage in (whole[:4096], b"", b"x" * len(whole)):
        path.write_bytes(damage)
        assert native._build(compiler).read_bytes() == whole
    path.chmod(0o777)
    native._build(compiler)
    assert len(built_at) == 5 and path.stat().st_mode & 0o077 == 0
