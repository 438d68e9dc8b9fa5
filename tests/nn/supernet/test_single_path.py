"""Single paths against mixed edges with a one-hot mix."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas.nn import operations
from dnas.nn.supernet import fused, weights
from dnas.nn.supernet.mixed import MixedEdges
from dnas.nn.supernet.single_path import SinglePathEdges

FUSED = fused.FUSED | fused.NORMALISED_POOLS
EQUAL = (("none", "skip_connect", "nor_conv_3x3", "noise"),) * 3
MANY = (
    *("nor_conv_1x1", "dil_conv_3x3", "none"),
    *("skip_connect", "avg_pool_3x3", "max_pool_3x3"),
)
UNLIKE = (("skip_connect", "plain_conv"), MANY, ("sep_conv_3x3", "plain_conv"), MANY)


@pytest.fixture(autouse=True)
def plain_conv(monkeypatch):
    """An operation that a user registered: it has no fused form."""
    known = dict(operations._OPERATIONS)
    monkeypatch.setattr(operations, "_OPERATIONS", known)
    operations.register("plain_conv", known["nor_conv_1x1"])


def edge_weights(candidates, table, single):
    """What `by_source` makes of the edges that leave one input."""
    blocks = [((f"0->{e + 1}",), names, table[e][None]) for e, names in enumerate(candidates)]
    if single:
        option = jnp.stack([row.argmax() for row in table])
        weight = jnp.stack([row[k] for row, k in zip(table, option, strict=True)])
        return weights.EdgeWeights(weights.Chosen(option, weight))
    operations = {
        name: jnp.stack([blocks[e][2][0, candidates[e].index(name)] for e in edges])
        for name, edges in weights.users(candidates).items()
    }
    return weights.EdgeWeights(operations)


def build(kind, candidates, stride):
    edges = kind(4, candidates, stride, fused=FUSED, rngs=nnx.Rngs(0))
    graph, params = nnx.split(edges, nnx.Param)
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(params))
    draws = [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    return graph, jax.tree.unflatten(tree, draws)


def losses(graph, candidates, single, key):
    def loss(params, x, table):
        outputs = nnx.merge(graph, nnx.State(params))(
            x, edge_weights(candidates, table, single), key
        )
        return sum((jnp.sin(sum(terms)) * (e + 1)).sum() for e, terms in enumerate(outputs))

    return loss


@pytest.mark.parametrize(("candidates", "stride"), [(EQUAL, 1), (UNLIKE, 2)])
def test_outputs_and_derivatives_are_those_of_the_one_hot_mix(candidates, stride):
    x = jax.random.normal(jax.random.key(7), (2, 4, 4, 4))
    key = jax.random.key(9)
    found = []
    for kind, single in ((MixedEdges, False), (SinglePathEdges, True)):
        graph, params = build(kind, candidates, stride)
        loss = losses(graph, candidates, single, key)

        def derivatives(table, loss=loss, params=params):
            direction = jax.tree.map(jnp.cos, params)
            mixed = lambda p: jax.jvp(lambda q: loss(q, x, table), (p,), (direction,))[1]  # noqa: E731
            value, gradients = jax.value_and_grad(loss, (0, 1, 2))(params, x, table)
            return value, gradients, jax.grad(mixed)(params)

        derivatives = jax.jit(derivatives)
        choices = [[0, 1, 2, 3], [2, 0, 1, 4], [1, 5, 0, 0]]
        for choice in choices:
            one_hot = [
                0.5 * jax.nn.one_hot(choice[e] % len(names), len(names))
                for e, names in enumerate(candidates)
            ]
            value, (of_params, of_x, of_table), second = derivatives(one_hot)
            chosen = [t[o.argmax()] for t, o in zip(of_table, one_hot, strict=True)]
            found.append((value, of_params, of_x, chosen, second))
            if single:  # the other options got no gradient: they were not computed
                for gradient, o in zip(of_table, one_hot, strict=True):
                    assert (np.asarray(gradient)[np.asarray(o) == 0] == 0).all()
    assert float(jnp.abs(jnp.concatenate([jnp.array(f[3]) for f in found])).max()) > 0.1
    half = len(found) // 2
    for mixed, single in zip(found[:half], found[half:], strict=True):
        for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(single), strict=True):
            chex.assert_trees_all_close(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(a).max()))


def test_options_that_are_not_chosen_are_not_computed():
    candidates = (("skip_connect", "nor_conv_1x1", "nor_conv_3x3"),) * 2
    graph, params = build(SinglePathEdges, candidates, 1)
    params["operations"]["nor_conv_3x3"]["kernel"] *= jnp.nan  # whoever computes it, shows it
    loss = jax.jit(jax.value_and_grad(losses(graph, candidates, True, None), (0, 1, 2)))
    x = jax.random.normal(jax.random.key(7), (2, 4, 4, 4))
    for choice in ([0, 1], [1, 1]):
        found = loss(params, x, list(jax.nn.one_hot(jnp.array(choice), 3)))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.isnan(loss(params, x, list(jax.nn.one_hot(jnp.array([0, 2]), 3)))[0])


def test_switches_survive_in_the_compiled_program():
    """XLA keeps conditionals: none was turned into a selection among computed options."""
    candidates = (("skip_connect", "nor_conv_1x1", "nor_conv_3x3"),) * 2
    graph, params = build(SinglePathEdges, candidates, 1)
    gradient = jax.jit(jax.grad(losses(graph, candidates, True, None)))
    x, table = jnp.ones((2, 4, 4, 4)), list(jnp.eye(3)[:2])
    text = gradient.lower(params, x, table).compile().as_text()
    assert text.count(" conditional(") >= 2  # one for each edge, at least
