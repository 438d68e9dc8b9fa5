"""Data-parallel steps against one device that averages the same per-replica gradients."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import presets, spaces
from dnas.gradient import hypergrad
from dnas.runtime import parallel
from dnas.tasks import Augment, Classification

SPACE = spaces.NASBench201(channels=2, cells=1, stages=1, nodes=3)
TASK = Classification((6, 6, 1), 3, (0.5,), (0.25,), Augment(crop_padding=1, flip=True))
BATCH = 16


def build(method, axis_name):
    preset = presets.darts(hypergradient=method, alpha_learning_rate=0.05)
    return preset.build(SPACE, TASK, steps_per_epoch=4, epochs=2, axis_name=axis_name)


def batches(steps):
    rng = np.random.default_rng(0)
    return tuple(
        {
            "image": jnp.asarray(rng.integers(0, 256, (steps, BATCH, 6, 6, 1)), jnp.uint8),
            "label": jnp.asarray(rng.integers(0, 3, (steps, BATCH)), jnp.int32),
        }
        for _ in range(2)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "devices"),
    [(hypergrad.first_order(), 2), (hypergrad.unrolled(), 2), (hypergrad.unrolled(), 8)],
)
def test_replicas_agree_bitwise_and_match_one_device(method, devices):
    many = parallel.make("pmap", devices)
    data = batches(3)
    search = build(method, many.axis_name)
    init = jax.jit(search.init)
    state = many.replicate(init(jax.random.key(0)))
    state, sums = many.advance(search.step)(state, data, 3)
    for leaf in jax.tree.leaves(jax.tree.map(lambda x: x, state._replace(key=()))):
        copies = np.asarray(leaf)
        assert (copies == copies[:1]).all()

    # One device: `vmap` with the same axis name averages the same per-replica gradients.
    step = jax.jit(jax.vmap(search.step, in_axes=(None, 0, 0), axis_name=many.axis_name))
    expected, total = init(jax.random.key(0)), 0.0
    for i in range(3):
        shards = [
            jax.tree.map(lambda x, i=i: x[i].reshape(devices, -1, *x.shape[2:]), part)
            for part in data
        ]
        expected, metrics = step(expected, *shards)
        expected = jax.tree.map(lambda x: x[0], expected)
        total = total + metrics["train"]["loss"][0]
    found = many.unreplicate(state)
    chex.assert_trees_all_close(
        found._replace(key=()), expected._replace(key=()), rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(sums["train"]["loss"], total, rtol=1e-5)
    start = init(jax.random.key(0)).alphas["cell"]
    assert np.abs(found.alphas["cell"] - start).max() > 0.05


@pytest.mark.slow
def test_one_compilation_for_all_counts_and_the_same_result_in_any_chunks():
    one = parallel.make("none")
    search = build(hypergrad.first_order(), None)
    data = batches(3)
    init = jax.jit(search.init)
    traces = []

    def step(state, *parts):
        traces.append(1)
        return search.step(state, *parts)

    advance = one.advance(step)
    whole, sums = advance(init(jax.random.key(0)), data, 3)
    traced = len(traces)
    state, total = init(jax.random.key(0)), 0.0
    for start, count in ((0, 2), (2, 1)):
        part = jax.tree.map(functools.partial(np.roll, shift=-start, axis=0), data)
        state, more = advance(state, part, count)
        total = total + more["valid"]["loss"]
    assert len(traces) == traced
    chex.assert_trees_all_equal(whole._replace(key=()), state._replace(key=()))
    np.testing.assert_allclose(total, sums["valid"]["loss"], rtol=1e-6)


def test_the_wrong_kind_batch_or_number_of_devices_is_named():
    with pytest.raises(ValueError, match="parallel='magic'"):
        parallel.make("magic")
    with pytest.raises(ValueError, match="devices=99"):
        parallel.make("pmap", 99)
    with pytest.raises(ValueError, match="batch_size=9 does not divide among 2"):
        parallel.make("pmap", 2).check_batch(9)
