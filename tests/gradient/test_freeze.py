"""OLES against hand-made gradients and a plain second computation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas import spaces
from dnas.gradient import freeze
from dnas.nn.supernet.fused import FUSED
from dnas.nn.supernet.mixed import MixedEdges
from dnas.nn.supernet.owners import Owner, owners
from dnas.tasks import Classification

AXES = {"kernel": 4, "kernels": 3, "depthwise": 4, "pointwise": 2}  # behind the cells' axis 0


def random_like(params, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)


def params_of(space):
    """The shapes of a supernet's parameters, and their owners."""
    net = nnx.eval_shape(lambda: space.supernet(Classification((8, 8, 3), 3), rngs=nnx.Rngs(0)))
    return nnx.to_pure_dict(nnx.state(net, nnx.Param)), owners(net)


def paths(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def single(path, x, cell, edge):
    """What belongs to one edge in one cell of the parameter at `path`."""
    kind = path[path.index("operations") + 2]
    return np.take(x[cell], edge, AXES[kind] - 1)


SPACES = {
    "nas_bench_201": spaces.NASBench201(channels=4, cells=2, stages=2),
    "darts": spaces.DARTS(channels=2, cells=4, nodes=2),
}


@pytest.mark.parametrize(("name", "against"), [("nas_bench_201", "sum"), ("darts", "valid")])
def test_cosines_of_every_operation_edge_and_cell(name, against):
    params, owned = params_of(SPACES[name])
    train, valid = random_like(params, 0), random_like(params, 1)
    rule = freeze.oles(window=3, threshold=0.1, against=against)
    update = jax.jit(functools.partial(rule.update, owners=owned))
    state = update(train, valid, rule.init(params, owned))[1]
    other = jax.tree.map(jnp.add, train, valid) if against == "sum" else valid
    gradients = [{p: np.asarray(x) for p, x in paths(g).items()} for g in (train, other)]

    operations = {p for p in paths(params) if "operations" in p}
    names = {"/".join(map(str, p[: p.index("operations") + 2])) for p in operations}
    assert set(state.total) == names
    for key in names:
        cells, edges = state.total[key].shape
        mine = [p for p in operations if "/".join(map(str, p)).startswith(key + "/")]
        for cell in range(cells):
            for edge in range(edges):
                a, b = (
                    np.concatenate([single(p, g[p], cell, edge).reshape(-1) for p in sorted(mine)])
                    for g in gradients
                )
                cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                np.testing.assert_allclose(state.total[key][cell, edge], cosine, atol=1e-5)


def test_one_operation_of_a_supernet_is_frozen_for_good():
    """Its gradients disagree on one edge in one cell: there it stops, and nothing else does."""
    params, owned = params_of(SPACES["nas_bench_201"])
    train = random_like(params, 0)
    path = ("stages", 1, "cells", "sources", 0, "operations", "nor_conv_3x3", "kernel")
    cell, edge = 1, 2

    def against(p, x):
        if tuple(k.key for k in p) != path:
            return x
        return x.at[cell, ..., edge, :].multiply(-1)

    valid = jax.tree_util.tree_map_with_path(against, train)
    rule = freeze.oles(window=2)
    update = jax.jit(functools.partial(rule.update, owners=owned))
    state = rule.init(params, owned)
    masks = []
    for gradient in (valid, valid, train, train, train):
        mask, state = update(train, gradient, state)
        masks.append(mask)
    assert all(np.all(x == 1) for x in jax.tree.leaves(masks[0]))
    for mask in masks[1:]:
        for p, x in paths(mask).items():
            whole = np.broadcast_to(x, paths(params)[p].shape)
            expected = np.ones_like(whole)
            if p == path:
                expected[cell, ..., edge, :] = 0
            np.testing.assert_array_equal(whole, expected)


def toy(train, valid):
    """Gradients of one separable operation of two edges in one cell, and of a layer besides.

    The two vectors are those of edge 0: the depthwise weight and then the pointwise one.
    """

    def tree(vector):
        depthwise = jnp.array([[[[[vector[0], 1.0]]]]])  # [1, 1, 1, 1, edges]
        pointwise = jnp.array([[[[vector[1]], [1.0]]]])  # [1, 1, edges, 1]
        operation = {"depthwise": {0: depthwise}, "pointwise": {0: pointwise}}
        return {"cells": {"operations": {"sep_conv_3x3": operation}}, "stem": jnp.ones(2)}

    return tree(train), tree(valid)


KEY = "cells/operations/sep_conv_3x3"
_PLACE = ("cells", "operations", "sep_conv_3x3")
TOY = {(*_PLACE, "depthwise", 0): Owner(KEY, -1), (*_PLACE, "pointwise", 0): Owner(KEY, -2)}


def run(rule, steps):
    """Which of the two edges are frozen after each step."""
    state = rule.init(toy((1.0, 1.0), (1.0, 1.0))[0], TOY)
    history = []
    for vectors in steps:
        mask, state = rule.update(*toy(*vectors), state, TOY)
        operation = mask["cells"]["operations"]["sep_conv_3x3"]
        frozen = 1 - operation["depthwise"][0].reshape(-1)
        np.testing.assert_array_equal(1 - operation["pointwise"][0].reshape(-1), frozen)
        assert mask["stem"] == 1
        history.append(frozen.tolist())
    return history


def test_windows_of_mean_cosines():
    # Cosines 0.6, 0.8 and 0: all weights of an operation are one vector.
    six, eight, none = ((1.0, 0.0), (3.0, 4.0)), ((0.0, 2.0), (3.0, 4.0)), ((1.0, 0.0), (0.0, 1.0))
    rule = freeze.oles(window=2, threshold=0.4, against="valid")
    # Means 0.7 and 0.4 keep it; 0.3 freezes it, and agreement comes too late then.
    history = run(rule, [six, eight, none, eight, six, none, six, six])
    assert history == [[0, 0]] * 5 + [[1, 0]] * 3
    # Windows do not overlap: between these two lies a pair of mean 0.
    assert run(rule, [eight, none, none, eight]) == [[0, 0]] * 4


def test_steps_without_gradient_do_not_count():
    absent, six = ((0.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (3.0, 4.0))
    rule = freeze.oles(window=2, threshold=0.5, against="valid")
    assert run(rule, [absent, six, absent, absent]) == [[0, 0]] * 4
    rule = freeze.oles(window=2, threshold=0.7, against="valid")
    assert run(rule, [absent, six]) == [[0, 0], [1, 0]]
    # Without a validation gradient the sum is the training gradient itself: no agreement.
    alone, none = ((1.0, 0.0), (0.0, 0.0)), ((1.0, 0.0), (0.0, 1.0))
    assert run(freeze.oles(window=2, threshold=0.8), [alone, none]) == [[0, 0], [1, 0]]


def test_the_published_rule_compares_with_the_sum():
    """Gradients without anything in common have a cosine of 0.7 with their sum: no reason."""
    none = ((1.0, 0.0), (0.0, 1.0))
    assert run(freeze.oles(), [none] * 20) == [[0, 0]] * 20
    paper = freeze.oles(threshold=0.4, against="valid")
    assert run(paper, [none] * 20) == [[0, 0]] * 19 + [[1, 0]]
    # cos((1, 0) + v, (1, 0)) is below 0.4 for v = (-1, 1) and (-0.7, 1), not for (-0.5, 1).
    for v, frozen in (((-1.0, 1.0), 1), ((-0.7, 1.0), 1), ((-0.5, 1.0), 0), ((-1.0, 0.0), 1)):
        assert run(freeze.oles(window=1), [((1.0, 0.0), v)]) == [[frozen, 0]]


def test_how_far_it_has_gone():
    """The share that is frozen, and the largest share of one decision."""
    rule = freeze.oles(window=1, threshold=0.4, against="valid")
    state = rule.init(toy((1.0, 1.0), (1.0, 1.0))[0], TOY)
    assert tuple(map(float, rule.frozen(state))) == (0, 0)
    agree, disagree = ((1.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (-1.0, 0.0))
    for vectors, found in ((agree, (0, 0)), (disagree, (0.5, 0.5)), (agree, (0.5, 0.5))):
        state = rule.update(*toy(*vectors), state, TOY)[1]
        assert tuple(map(float, rule.frozen(state))) == found
    train, _ = toy(*disagree)
    state = rule.update(train, jax.tree.map(jnp.negative, train), rule.init(train, TOY), TOY)[1]
    assert tuple(map(float, rule.frozen(state))) == (1, 1)


def test_parameters_of_operations_without_a_fused_form():
    """Every edge has its own parameters; those of the auxiliary skip belong to no candidate."""
    candidates = (("sep_conv_3x3", "skip_connect"), ("sep_conv_3x3",))

    def make():
        return MixedEdges(
            4,
            candidates,
            2,
            fused={"skip_connect": FUSED["skip_connect"]},
            auxiliary_skip=True,
            rngs=nnx.Rngs(0),
        )

    edges = nnx.eval_shape(make)
    params, owned = nnx.to_pure_dict(nnx.state(edges, nnx.Param)), owners(edges)
    assert set(owned) == {p for p in paths(params) if p[0] == "operations"}
    assert set(owned.values()) == {
        ("operations/sep_conv_3x3/edges/0", None),
        ("operations/sep_conv_3x3/edges/1", None),
        ("operations/skip_connect", -2),
    }

    # As in a supernet, with an axis of cells in front; edge 1 disagrees in the last cell.
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), params)
    train = random_like(params, 0)
    valid = jax.tree_util.tree_map_with_path(
        lambda p, x: (
            x.at[1].multiply(-1) if p[-4:-2] and [k.key for k in p][2:4] == ["edges", 1] else x
        ),
        train,
    )
    rule = freeze.oles(window=1)
    mask, _ = rule.update(train, valid, rule.init(params, owned), owned)
    for path, x in paths(mask).items():
        expected = [1, 0] if path[2:4] == ("edges", 1) else [1, 1]
        assert np.broadcast_to(x, paths(params)[path].shape).reshape(2, -1).min(1).tolist() == (
            expected
        )


def test_errors():
    with pytest.raises(ValueError, match="window=0"):
        freeze.oles(window=0)
    with pytest.raises(ValueError, match=r"threshold=2\.0"):
        freeze.oles(threshold=2.0)
    with pytest.raises(ValueError, match="against='train': expected 'sum' or 'valid'"):
        freeze.oles(against="train")
    with pytest.raises(ValueError, match=r"threshold is missing: .* belongs to against='sum'"):
        freeze.oles(against="valid")
    with pytest.raises(ValueError, match="no parameter of this supernet belongs to a candidate"):
        freeze.oles().init({"layers": {"kernel": jnp.zeros((2, 2))}}, {})
