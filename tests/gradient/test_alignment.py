"""Layer alignment against its definition, differentiated plainly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dnas import spaces
from dnas.gradient import alignment, skeleton
from dnas.tasks import Classification

LAYERS = {"cell": 3, "cell.2": 3, "other": 2, "single": 1}
SHAPES = {"cell": (2, 3), "cell.2": (1, 2), "other": (2, 2), "single": (1, 3)}
SHARED = ("cell", "cell.2", "other")
PARTS = {"cell": "cell", "cell.2": "cell", "other": "other", "single": "single"}


def plainly(gradients):
    """Pairs of cells one by one; 'cell' and 'cell.2' are one vector."""
    means = []
    for names in (("cell", "cell.2"), ("other",)):
        cells = [
            jnp.concatenate([gradients[n][i].reshape(-1) for n in names])
            for i in range(LAYERS[names[0]])
        ]
        cosines = [
            a @ b / jnp.sqrt((a @ a) * (b @ b)) for i, a in enumerate(cells) for b in cells[:i]
        ]
        means.append(sum(cosines) / len(cosines))
    return sum(means) / len(means)


def tables(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(scale * rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}


def weights(seed):
    """For each table and cell, a matrix from the softmax of the table to the carry."""
    rng = np.random.default_rng(seed)
    return {
        n: jnp.asarray(rng.normal(size=(cells, 4, np.prod(SHAPES[n]))), jnp.float32)
        for n, cells in LAYERS.items()
    }


def smooth_loss(params, mix):
    """Three cells in a chain, each of which adds what its tables say; all are nonlinear."""
    x = jnp.linspace(-1.0, 1.0, 4)
    for cell in range(3):
        own = {n: mix[n][cell] if mix[n].ndim == 3 else mix[n] for n in LAYERS if cell < LAYERS[n]}
        x = jnp.tanh(x + sum(params[n][cell] @ t.reshape(-1) for n, t in own.items()) * jnp.cos(x))
    return jnp.square(x).sum()


def copies(tables):
    return {n: jnp.broadcast_to(tables[n], (LAYERS[n], *SHAPES[n])) for n in SHARED}


def plain_alignment(loss, tables):
    return plainly(jax.grad(lambda c: loss(tables | c))(copies(tables)))


def test_alignment_of_hand_made_gradients():
    a = jnp.array([[[1.0, 0.0]], [[0.0, 2.0]], [[-3.0, 0.0]]])  # cosines 0, -1, 0
    np.testing.assert_allclose(alignment.alignment({"cell": a}), -1 / 3, rtol=1e-6)
    same = jnp.ones((2, 3, 4)) * jnp.array([1.0, 5.0])[:, None, None]
    both = alignment.alignment({"cell": a, "other": same})
    np.testing.assert_allclose(both, (-1 / 3 + 1) / 2, rtol=1e-6)
    # Tables of one part are one vector: (1, 0, 2), (0, 2, 2), (-3, 0, 2).
    joined = alignment.alignment(
        {"first": a, "second": jnp.full((3, 1, 1), 2.0)}, {"first": "cell", "second": "cell"}
    )
    expected = (4 / np.sqrt(5 * 8) + 1 / np.sqrt(5 * 13) + 4 / np.sqrt(8 * 13)) / 3
    np.testing.assert_allclose(joined, expected, rtol=1e-6)


def test_cells_without_gradient_keep_everything_finite():
    gradients = {"cell": jnp.array([[[1.0, 2.0]], [[0.0, 0.0]], [[1.0, 2.0]]])}
    value, slope = jax.value_and_grad(alignment.alignment)(gradients)
    np.testing.assert_allclose(value, 1 / 3, rtol=1e-6)
    assert np.isfinite(slope["cell"]).all()


def test_regulariser_of_the_weights():
    params, mix = weights(0), tables(1, 0.3)
    penalty = alignment.align_weights(lambda step: 0.1 * step, LAYERS, PARTS)
    compiled = jax.jit(lambda p, m, s: penalty(smooth_loss, p, m, s, lambda tree: tree))

    def lagrangian(params):
        return -0.3 * plain_alignment(lambda mix: smooth_loss(params, mix), mix)

    value, expected = jax.jit(jax.value_and_grad(lagrangian))(params)
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 0.01
    gradient, metrics = compiled(params, mix, 3)
    np.testing.assert_allclose(metrics["alignment"], value / -0.3, rtol=1e-4)
    for name in LAYERS:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=2e-3, atol=1e-5)

    # The step is traced.
    assert all(not np.any(x) for x in jax.tree.leaves(compiled(params, mix, 0)[0]))
    assert compiled._cache_size() == 1


def test_replicas():
    """Replicas of different losses find the alignment of the mean loss."""
    mix = tables(3, 0.3)
    params = [weights(seed) for seed in (4, 5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *params)
    penalty = alignment.align_weights(0.5, LAYERS, PARTS)

    # Weights are what the replicas' losses differ in; what they share, and learn, is a scale.
    def scaled(own, scale, mix):
        return smooth_loss(jax.tree.map(lambda x: scale * x, own), mix)

    def of_replica(own):
        def mean(tree):
            return jax.lax.pmean(tree, "replicas")

        return penalty(lambda s, m: scaled(own, s, m), 1.0, mix, 0, mean)[0]

    def together(scale, mix):
        return sum(scaled(own, scale, mix) for own in params) / 2

    found = jax.jit(jax.vmap(of_replica, axis_name="replicas"))(stacked)
    expected = jax.jit(lambda s: penalty(together, s, mix, 0, lambda tree: tree)[0])(1.0)
    assert abs(expected) > 0.01
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-3)


def test_weights_of_a_supernet():
    """Against reverse-over-reverse differentiation of the definition."""
    space = spaces.NASBench201(channels=2, cells=2, stages=1, nodes=2)
    net = space.supernet(Classification((8, 8, 1), 3), rngs=nnx.Rngs(0))
    graph = nnx.graphdef(net)
    params = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    mix = {"cell": jnp.array([[0.1, 0.3, 0.2, 0.25, 0.15]])}
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    labels = jnp.array([0, 1, 2, 0])

    def loss(params, mix):
        logits = skeleton.merge(graph, params)(images, mix)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def definition(params):
        own = jnp.broadcast_to(mix["cell"], (2, *mix["cell"].shape))
        a, b = jax.grad(lambda t: loss(params, {"cell": t}))(own).reshape(2, -1)
        return a @ b / jnp.sqrt((a @ a) * (b @ b))

    penalty = alignment.align_weights(2.0, space.layers)
    found, metrics = jax.jit(lambda p: penalty(loss, p, mix, 0, lambda tree: tree))(params)
    value, expected = jax.jit(jax.value_and_grad(definition))(params)
    np.testing.assert_allclose(metrics["alignment"], value, rtol=1e-3)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected))
    assert largest > 0.01
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, -2 * e, atol=2e-3 * largest), found, expected
    )


def test_errors():
    with pytest.raises(ValueError, match="two cells"):
        alignment.align_weights(0.1, {"reduce": 1})
    with pytest.raises(ValueError, match=r"weight=-0\.1"):
        alignment.align_weights(-0.1, {"normal": 6})
