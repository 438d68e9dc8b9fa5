"""Supernets of unlike edges and odd shapes, and the counts of weights; see tests/parity, too."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from dnas import space as spaces
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification


@pytest.mark.slow
def test_fused_supernet_with_candidates_of_each_edge_matches_plain_one():
    space = DARTS.subset("s1", channels=2, cells=2)
    task = Classification((8, 8, 3), 4)
    net = space.supernet(task, rngs=nnx.Rngs(0))
    graph, params = nnx.split(net)
    x = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    target = jax.random.normal(jax.random.key(2), (6, 4))
    alphas = spaces.initial_alphas(space.decisions, jax.random.key(3), scale=1.0)

    def gradients(f):
        def loss(params, alphas):
            mix = {name: jax.nn.softmax(table) for name, table in alphas.items()}
            logits = f(nnx.merge(graph, params), x, mix)
            return (logits * target).sum(), logits

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, alphas)

    ours = gradients(lambda net, x, mix: net(x, mix))
    theirs = gradients(lambda net, x, mix: reference.darts(net, x, mix, space))
    assert jnp.abs(ours[1]).max() > 0.01
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = float(jnp.abs(other).max())
        chex.assert_trees_all_close(mine, other, rtol=1e-4, atol=1e-4 * max(scale, 1e-3))


def count(build):
    state = nnx.state(nnx.eval_shape(build), nnx.Param)
    return sum(x.size for x in jax.tree.leaves(state))


def test_darts_supernet_has_the_published_number_of_weights():
    task = Classification((32, 32, 3), 10)
    assert count(lambda: DARTS().supernet(task, rngs=nnx.Rngs(0))) == 1_930_618


def test_nas_bench_201_supernet_has_the_expected_number_of_weights():
    # Six edges of a 1x1 and a 3x3 convolution in five cells a stage; the skeleton's convolutions
    # with an affine normalisation each; a biased classifier.
    cells = sum(5 * 6 * 10 * c * c for c in (16, 32, 64))
    skeleton = 27 * 16 + 2 * 16 + 2 * 64 + 64 * 10 + 10
    for c in (16, 32):
        skeleton += 9 * c * 2 * c + 9 * 4 * c * c + c * 2 * c + 2 * 2 * (2 * c)
    task = Classification((32, 32, 3), 10)
    assert count(lambda: NASBench201().supernet(task, rngs=nnx.Rngs(0))) == cells + skeleton


@pytest.mark.parametrize("shape", [(8, 6, 1), (5, 7, 3), (1, 1, 1)])
@pytest.mark.parametrize(
    "space", [NASBench201(channels=1, cells=1), DARTS(channels=2, cells=1), DARTS(2, 2, 1)]
)
def test_odd_shapes_and_small_spaces_work(space, shape):
    task = Classification(shape, 2)
    net = nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0)))
    mix = spaces.initial_alphas(space.decisions, jax.random.key(0))
    graph, params = nnx.split(net)
    logits = jax.eval_shape(
        lambda p, x: nnx.merge(graph, p)(x, mix), params, jnp.zeros((2, *shape))
    )
    assert logits.shape == (2, 2)
    genotype = space.sample(np.random.default_rng(0))
    network = nnx.eval_shape(lambda: space.network(genotype, task, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(network)
    output = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, jnp.zeros((2, *shape)))
    assert output.logits.shape == (2, 2)


def test_noise_needs_a_key_and_uses_it():
    space = DARTS.subset("s4", channels=2, cells=1, nodes=1)
    net = space.supernet(Classification((4, 4, 1), 2), rngs=nnx.Rngs(0))
    mix = spaces.initial_alphas(space.decisions, jax.random.key(0))
    x = jnp.ones((2, 4, 4, 1))
    with pytest.raises(ValueError, match="needs a PRNG key"):
        net(x, mix)
    first, again, other = (net(x, mix, key=jax.random.key(k)) for k in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-3
