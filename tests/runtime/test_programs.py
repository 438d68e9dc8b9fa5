import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import data as datasets
from dnas import presets
from dnas.jobs.search import search
from dnas.runtime import programs
from dnas.spaces import NASBench201


@pytest.fixture
def compiled():
    """The programs that are kept, none at first."""
    programs.forget()
    yield programs._programs
    programs.forget()


def scaled(factor):
    return programs.once(jax.jit(lambda x: factor * jnp.tanh(x)))


def test_equal_functions_share_a_program(compiled):
    x = np.arange(3.0, dtype=np.float32)
    first = scaled(2.0)(x)
    np.testing.assert_array_equal(scaled(2.0)(x), first)
    assert len(compiled) == 1
    np.testing.assert_allclose(scaled(3.0)(x), 1.5 * first, rtol=1e-6)
    assert len(compiled) == 2
    assert scaled(2.0)(x[:2]).shape == (2,)
    assert len(compiled) == 3


def test_large_constants_tell_programs_apart():
    tables = [np.zeros(5000, np.float32), np.eye(1, 5000, 2500, dtype=np.float32)[0]]
    sums = [programs.once(jax.jit(lambda x, t=t: (x * t).sum()))(jnp.float32(1)) for t in tables]
    assert [float(s) for s in sums] == [0, 1]


def test_options_and_devices_tell_programs_apart(compiled):
    x = np.zeros(3, np.float32)
    for about in ("", "options", "options"):
        programs.once(jax.jit(jnp.sin), about)(x)
    assert len(compiled) == 2


def test_structures_of_arguments_and_results_tell_programs_apart(compiled):
    """Their texts are the same, but an executable refuses arguments of another structure."""
    x = np.zeros(3, np.float32)
    named = [
        programs.once(jax.jit(lambda x, a=a, b=b: {b: jnp.sin(x[a])}))({a: x})
        for a, b in ("aa", "ba", "bb")
    ]
    assert [list(result) for result in named] == [["a"], ["a"], ["b"]]
    assert len(compiled) == 3


def test_closures_are_not_kept():
    class Held:
        pass

    held = Held()
    kept = weakref.ref(held)

    def function(x, held=held):
        return x + 1

    programs.once(jax.jit(function))(np.zeros(2, np.float32))
    del held, function
    gc.collect()
    assert kept() is None


def test_only_the_latest_programs_are_kept(compiled, monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 2)
    double = scaled(2.0)
    for size in (1, 2, 3):
        double(np.zeros(size, np.float32))
    kept = list(compiled)
    scaled(2.0)(np.zeros(3, np.float32))
    assert len(kept) == 2 and list(compiled) == kept


def test_the_second_of_two_equal_searches_compiles_no_step(compiled):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 4, 4, 1), np.uint8), np.arange(12) % 2
    data = datasets.from_arrays(images, labels, images[:2], labels[:2])

    def run():
        space = NASBench201(
            channels=2, cells=1, stages=1, nodes=2, operations=("none", "skip_connect")
        )
        return search(space, data, presets.darts(), epochs=1, batch_size=2, progress=False)

    first, kept = run(), list(compiled)
    assert len(kept) == 2  # the initialisation and the steps
    assert run().history == first.history and set(compiled) == set(kept)
