"""Weights and alphas carried to restricted, deeper and wider supernets."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas import space as spaces
from dnas.nn import operations
from dnas.nn.supernet.inherit import inherit, inherit_alphas
from dnas.space import Mixing
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification

TASK = Classification((8, 8, 3), 4)
X = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


def supernet(space, seed):
    """The graph of a supernet and random weights, without the time that its own draw takes."""
    net = nnx.eval_shape(lambda: space.supernet(TASK, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(net, nnx.Param)
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.array(rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    return graph, jax.tree.map(draw, nnx.to_pure_dict(params))


def carried(old_space, new_space):
    (_, old), (_, new) = supernet(old_space, 0), supernet(new_space, 1)
    return old, inherit(old_space, old, new_space, new, TASK), new


def logits(space, params, mix):
    graph, _ = supernet(space, 0)
    return jax.jit(lambda p, mix: nnx.merge(graph, nnx.State(p))(X, mix))(params, mix)


def test_a_restricted_supernet_computes_the_old_one_without_what_it_lost(monkeypatch):
    known = dict(operations._OPERATIONS)
    monkeypatch.setattr(operations, "_OPERATIONS", known)
    operations.register("plain_conv", known["nor_conv_1x1"])  # has no fused form
    names = ("none", "skip_connect", "plain_conv", "dil_conv_3x3", "nor_conv_1x1")
    old_space = DARTS(channels=2, cells=2, nodes=2, operations=names)
    keep = {
        "normal": {"0->2": ("skip_connect", "dil_conv_3x3"), "1->3": ("none", "nor_conv_1x1")},
        "reduce": {"1->2": ("dil_conv_3x3",), "0->2": ("nor_conv_1x1",),
                   "0->3": ("plain_conv", "skip_connect"), "1->3": ("plain_conv",)},
    }  # fmt: skip
    new_space = old_space.restrict(keep)
    old, params, _ = carried(old_space, new_space)
    old_mix = spaces.initial_alphas(old_space.decisions, jax.random.key(3), 1.0)
    fresh = spaces.initial_alphas(new_space.decisions, jax.random.key(4))
    # The weights of a mix go the way of alphas; what is lost has the weight zero in the old one.
    new_mix = inherit_alphas(old_space, old_mix, new_space, fresh)
    zeros = jax.tree.map(jnp.zeros_like, old_mix)
    old_mix = inherit_alphas(new_space, new_mix, old_space, zeros)
    assert np.count_nonzero(old_mix["reduce"]) == 1 + 1 + 2 + 1 + 5
    expected = logits(old_space, old, old_mix)
    assert jnp.abs(expected).max() > 0.1
    chex.assert_trees_all_close(logits(new_space, params, new_mix), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", [NASBench201(2, 1, 3, stages=2), DARTS(2, 5, 1)])
def test_further_cells_are_copies_of_the_last_one(space):
    deeper = dataclasses.replace(space, cells=3 if isinstance(space, NASBench201) else 11)
    old, params, fresh = carried(space, deeper)
    copies, leaves = 0, jax.tree_util.tree_leaves_with_path
    before = dict(leaves(old))
    for path, leaf in leaves(params):
        if "cells" in jax.tree_util.keystr(path):
            expected = before[path]
            assert np.array_equal(leaf[: len(expected)], expected)
            for further in leaf[len(expected) :]:
                assert np.array_equal(further, expected[-1])
                copies += 1
        elif path in before and leaf.shape == before[path].shape:
            assert np.array_equal(leaf, before[path])
    assert copies > 0
    chex.assert_trees_all_equal_shapes_and_dtypes(params, fresh)
    if isinstance(space, DARTS):
        run = params["runs"][0]  # 1 cell before, 3 now: inputs of 6 and 6, 6 and 2, 2 and 2
        assert np.array_equal(run["older"][1], old["runs"][0]["older"][0])
        assert np.array_equal(run["newer"][1], fresh["runs"][0]["newer"][1])  # of no old shape


def test_wider_partial_channels_repeat_the_old_ones():
    narrow = DARTS(8, 2, 1, operations=("skip_connect", "sep_conv_3x3"), mixing=Mixing(partial=4))
    wide = dataclasses.replace(narrow, mixing=Mixing(partial=1, auxiliary_skip=True))
    old, params, fresh = carried(narrow, wide)
    place = lambda p: p["runs"][0]["stack"]["cells"]["graph"]["sources"][0]  # noqa: E731
    before, after = place(old)["operations"], place(params)["operations"]
    pointwise = np.tile(before["sep_conv_3x3"]["pointwise"][0], (1, 4, 1, 4))
    assert np.array_equal(after["sep_conv_3x3"]["pointwise"][0], pointwise)
    kernels = np.tile(before["skip_connect"]["kernels"], (1, 1, 4, 1, 4))
    assert np.array_equal(after["skip_connect"]["kernels"], kernels)
    # What the old supernet did not have starts anew.
    chex.assert_trees_all_equal(place(params)["auxiliary"], place(fresh)["auxiliary"])


def test_what_cannot_be_carried_is_refused():
    space = NASBench201(4, 2, 3, stages=2, operations=("skip_connect", "nor_conv_1x1"))
    for other, message in [
        (dataclasses.replace(space, operations=("nor_conv_3x3",)), "'nor_conv_3x3' is a candidate"),
        (dataclasses.replace(space, stages=3), "do not correspond"),
        (dataclasses.replace(space, cells=1), r"has the shape \(2, .*\(1, "),
        (dataclasses.replace(space, mixing=Mixing(partial=2)), "expected fewer candidates"),
        (dataclasses.replace(space, channels=8), "has the shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            inherit(space, supernet(space, 0)[1], other, supernet(other, 1)[1], TASK)


def test_cells_are_not_taken_for_edges():
    """One of three edges less, and one of three cells less: only the first can be carried."""
    space = NASBench201(4, 3, 4, stages=1, operations=("skip_connect", "nor_conv_1x1"))
    restricted = space.restrict({"cell": {"0->2": ("skip_connect",)}})
    old, params, _ = carried(space, restricted)
    place = lambda p: p["stages"][0]["cells"]["sources"][0]["operations"]["nor_conv_1x1"]  # noqa: E731
    assert np.array_equal(place(params)["kernel"], place(old)["kernel"][..., [0, 2], :])
    shallower = dataclasses.replace(restricted, cells=2)
    with pytest.raises(ValueError, match="has the shape"):
        inherit(space, old, shallower, supernet(shallower, 1)[1], TASK)


def test_alphas_find_their_rows_and_options_in_other_tables():
    mixing = Mixing(edge_normalization=True)
    space = NASBench201(nodes=3, operations=("none", "skip_connect", "nor_conv_1x1"), mixing=mixing)
    restricted = space.restrict({"cell": {"1->2": ("nor_conv_1x1", "none")}})
    alphas = {"cell": jnp.arange(9.0).reshape(3, 3), "cell.2": jnp.array([[5.0, 7.0]])}
    fresh = spaces.initial_alphas(restricted.decisions, jax.random.key(0))
    found = inherit_alphas(space, alphas, restricted, fresh)
    assert {n: t.tolist() for n, t in found.items()} == {
        "cell.0->1": [[0, 1, 2]],
        "cell.0->2": [[3, 4, 5]],
        "cell.1->2": [[6, 8]],
        "cell.2": [[5, 7]],
    }
    assert inherit_alphas(restricted, found, space, jax.tree.map(jnp.zeros_like, alphas))[
        "cell"
    ].tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 8]]
