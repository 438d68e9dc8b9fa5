"""Clipping against optax's."""

import chex
import jax
import jax.numpy as jnp
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
