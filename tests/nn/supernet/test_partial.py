"""Partial channels against arrays worked out by hand."""

import chex
import jax.numpy as jnp
import numpy as np

from dnas.nn.supernet import partial


def test_channels_are_shuffled_as_published():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    operated, bypassed = partial.split(x, 4)
    assert operated.ravel().tolist() == [0, 1] and bypassed.ravel().tolist() == [2, 3, 4, 5, 6, 7]
    # Groups 01, 23, 45, 67: first the first of every group, then the second.
    assert partial.join(operated, bypassed, 4).ravel().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert partial.join(x[..., :4], x[..., 4:], 2).ravel().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_a_reduction_is_bypassed_by_the_maximum_of_2x2_windows():
    x = -jnp.arange(1.0, 16).reshape(1, 3, 5, 1)
    assert partial.bypass(x, 1) is x
    expected = np.array([[-1, -3, -5], [-11, -13, -15]], np.float32)  # odd ends: what is left
    chex.assert_trees_all_equal(partial.bypass(x, 2)[0, ..., 0], jnp.array(expected))
