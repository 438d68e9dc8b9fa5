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


def test_averages_are_those_of_the_last_weights_and_move_nothing():
    inner = optimizers.sgd(0.1, 0.1, 10, momentum=0.0, weight_decay=0.0)
    averaged = optimizers.averaged(inner, start=3)
    params = plain = {"w": jnp.array([1.0, -2.0])}
    state, other, seen = averaged.init(params), inner.init(plain), []
    for _ in range(7):
        updates, state = averaged.update(params, state, params)
        params = optax.apply_updates(params, updates)
        updates, other = inner.update(plain, other, plain)
        plain = optax.apply_updates(plain, updates)
        seen.append(np.asarray(params["w"]))
        recent = seen[-1:] if len(seen) <= 3 else seen[3:]
        np.testing.assert_allclose(state.average["w"], np.mean(recent, 0), rtol=1e-6)
    np.testing.assert_array_equal(params["w"], plain["w"])
