"""Mixed cells of simple operations against sums written out."""

import chex
import jax
import jax.numpy as jnp
import pytest
import reference
from flax import nnx

from dnas.nn.kernels import pool
from dnas.nn.layers import dropout
from dnas.nn.supernet import weights
from dnas.nn.supernet.cell import MixedCell
from dnas.nn.supernet.fused import FUSED
from dnas.nn.supernet.mixed import MixedEdges
from dnas.space import Mixing

OPTIONS = ("none", "skip_connect", "avg_pool_3x3")
ROWS = weights.rows(1, 2)  # 0->1, 0->2, 1->2
TABLE = jnp.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.0, 0.6, 0.4]])


def cell(mixing, channels=4):
    return MixedCell(channels, 1, 2, (OPTIONS,) * 3, mixing=mixing, fused=FUSED, rngs=nnx.Rngs(0))


def image(channels=4):
    return jax.random.normal(jax.random.key(0), (2, 4, 4, channels))


def mixed(x, row):
    return row[1] * x + row[2] * pool.avg_pool(x)


def test_partial_channels_and_edge_weights_by_hand():
    x = image()
    edge_weights = {"0->2": jnp.array(0.9), "1->2": jnp.array(0.1)}
    own = weights.by_source([(ROWS, OPTIONS, TABLE)], 1, 2, edge_weights=edge_weights, partial=True)
    found = cell(Mixing(partial=2, edge_normalization=True))([x], own)

    def edge(x, row):  # two groups of two channels: 0 1 and 2 3 become 0 2 1 3
        y = jnp.concatenate([mixed(x[..., :2], row), x[..., 2:]], -1)
        return y[..., jnp.array([0, 2, 1, 3])]

    first = edge(x, TABLE[0])  # the only edge to its node: not weighted
    second = 0.9 * edge(x, TABLE[1]) + 0.1 * edge(first, TABLE[2])
    chex.assert_trees_all_close(found, [first, second], atol=1e-6)


@pytest.mark.parametrize("edge_weights", [{}, {"0->2": 0.9, "1->2": 0.1}])
def test_an_edge_that_is_left_out_takes_its_bypass_along(edge_weights):
    x, skip, none, out = image(), [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    assert OPTIONS[0] == "none"
    edge_weights = {name: jnp.array(weight) for name, weight in edge_weights.items()}
    for gone in (none, out):
        table = jnp.array([skip, gone, skip])
        tables = [(ROWS, OPTIONS, table)]
        own = weights.by_source(tables, 1, 2, edge_weights=edge_weights, partial=True)
        first, second = cell(Mixing(partial=2))([x], own)
        shuffled = x[..., jnp.array([0, 2, 1, 3])]
        chex.assert_trees_all_close(first, shuffled, atol=1e-6)
        again = first[..., jnp.array([0, 2, 1, 3])] * edge_weights.get("1->2", 1.0)
        chex.assert_trees_all_close(second, again, atol=1e-6)


@pytest.mark.parametrize("single_path", [False, True])
def test_auxiliary_skips_are_added_to_every_edge(single_path):
    x, beta = image(), 0.25
    edge_weights = {"0->2": jnp.array(0.9), "1->2": jnp.array(0.1)}
    tables = [(ROWS, OPTIONS, jnp.eye(3)[jnp.array([1, 0, 2])])]
    own = weights.by_source(tables, 1, 2, edge_weights=edge_weights, single_path=single_path)
    net = cell(Mixing(auxiliary_skip=True, single_path=single_path))
    first = x + beta * x
    second = 0.9 * beta * x + 0.1 * (pool.avg_pool(first) + beta * first)
    chex.assert_trees_all_close(net([x], own, auxiliary_skip=beta), [first, second], atol=1e-6)
    without = [x, 0.1 * pool.avg_pool(x)]
    chex.assert_trees_all_close(net([x], own), without, atol=1e-6)


def test_auxiliary_skips_of_reductions_have_weights_of_their_own():
    edges = MixedEdges(
        4, (("max_pool_3x3",),) * 2, 2, fused=FUSED, auxiliary_skip=True, rngs=nnx.Rngs(0)
    )
    kernels = jax.random.normal(jax.random.key(1), edges.auxiliary.kernels.shape)
    edges.auxiliary.kernels[...] = kernels
    x, weight = image(), jnp.array([0.5, 2.0])
    own = weights.EdgeWeights({"max_pool_3x3": weight})
    found = edges(x, own, auxiliary_skip=jnp.array(0.25))
    for e in (0, 1):
        skip = reference.factorized(x, kernels[:, :, e])
        expected = weight[e] * pool.max_pool(x, 2) + 0.25 * skip
        chex.assert_trees_all_close(sum(found[e]), expected, atol=1e-4)


@pytest.mark.parametrize("single_path", [False, True])
def test_dropout_falls_on_identity_skips_only_and_differs_between_edges(single_path):
    x = jnp.ones((8, 8, 8, 4))
    table = jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    own = weights.by_source([(ROWS, OPTIONS, table)], 1, 2, single_path=single_path)
    net = cell(Mixing(single_path=single_path))
    key = jax.random.key(0)
    first, second = net([x], own, key, skip_dropout=0.5)
    assert set(jnp.unique(first).tolist()) == {0.0, 2.0}  # scaled by 1 / (1 - 0.5)
    assert jnp.abs(first.mean() - 1) < 0.1  # 2048 elements: standard deviation 0.022
    pooled = pool.avg_pool(first)  # of an edge without a skip: nothing dropped behind it
    assert set(jnp.unique((second - pooled).round(4)).tolist()) == {0.0, 2.0}
    assert jnp.abs((second - pooled) - first).max() > 1  # another mask
    chex.assert_trees_all_equal(net([x], own, key, skip_dropout=0.0), net([x], own))


def test_dropout_keeps_the_expectation():
    x = jnp.arange(4.0)
    keys = jax.random.split(jax.random.key(0), 4000)
    mean = jax.vmap(lambda k: dropout(x, 0.3, k))(keys).mean(0)
    chex.assert_trees_all_close(mean, x, rtol=0.04)  # standard deviation 1 %
