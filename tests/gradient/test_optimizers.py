"""Clipping against optax's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import optimizers


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clips_by_the_norm_of_all_arrays(max_norm):
    shapes = {"a": (2, 3), "b": (6,), "c": (3, 2), "d": (), "e": (4, 1)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    tree = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    ours, theirs = (
        clip.update(tree, clip.init(tree))[0]
        for clip in (optimizers.clip_by_global_norm(max_norm), optax.clip_by_global_norm(max_norm))
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)
    clipped = not jnp.array_equal(ours["a"], tree["a"])
    assert clipped == (max_norm < 1)


def test_averages_begin_where_told_and_move_nothing():
    inner = optimizers.sgd(0.1, 0.1, 10, momentum=0.0, weight_decay=0.0)
    averaged = optimizers.averaged(inner)
    params = plain = {"w": jnp.array([1.0, -2.0])}
    state, other, seen = averaged.init(params), inner.init(plain), []
    for step in range(7):
        if step == 3:
            state = optimizers.begin_averaging(state, [3.0, 2.0, 2.5], 1)  # not above 3
            state = optimizers.begin_averaging(state, [2.0, 3.0, 2.5], 1)
            state = optimizers.begin_averaging(state, [1.0, 9.0, 9.5], 1)  # it has begun already
        updates, state = averaged.update(params, state, params)
        params = optax.apply_updates(params, updates)
        updates, other = inner.update(plain, other, plain)
        plain = optax.apply_updates(plain, updates)
        seen.append(np.asarray(params["w"]))
        recent = seen[-1:] if len(seen) <= 3 else seen[3:]
        np.testing.assert_allclose(state.average["w"], np.mean(recent, 0), rtol=1e-6)
    np.testing.assert_array_equal(params["w"], plain["w"])


@pytest.mark.parametrize(
    ("losses", "begins"),
    [
        ([5.0, 4.0, 3.0], False),  # of two before, the patience takes all
        ([5.0, 4.0, 3.0, 6.0], True),
        ([5.0, 4.0, 3.0, 4.5], False),  # below 5; what came within the patience does not count
        ([5.0, 4.0, 3.0, 3.5, 4.5], True),
    ],
)
def test_averaging_begins_when_the_loss_stops_falling(losses, begins):
    averaged = optimizers.averaged(optax.identity())
    state = averaged.init({})._replace(step=jnp.int32(9))
    assert (int(optimizers.begin_averaging(state, losses, 2).start) == 9) is begins
