"""Each preset's mixing weights, and what its supernet makes of them, in plain NumPy.

The presets are those of `dnas.presets`: their schedules and their modifiers are what is tested.
References are the published formulas in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import nnx

from dnas import presets, spaces
from dnas.nn.supernet import cell as cells
from dnas.nn.supernet.fused import FUSED
from dnas.space import Mixing
from dnas.spaces import parts

RNG = np.random.default_rng(0)
ALPHAS = RNG.normal(size=(4, 5)).astype(np.float32)
TABLES = {"cell": jnp.asarray(ALPHAS)}
COTANGENT = RNG.normal(size=ALPHAS.shape)
KEY, STEPS = jax.random.key(7), 11


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sampled(preset, step):
    """A sample of the preset's relaxation, and its gradient along a fixed cotangent."""
    relaxation = preset.made("relaxation", total_steps=STEPS)

    def sample(tables):
        return relaxation.sample(KEY, tables, jnp.int32(step))["cell"]

    mix, pull = jax.vjp(sample, TABLES)
    return mix, pull(jnp.asarray(COTANGENT, jnp.float32))[0]["cell"]


def gumbel():
    """The noise that belongs to the only table."""
    return np.asarray(jax.random.gumbel(jax.random.fold_in(KEY, 0), ALPHAS.shape), np.float64)


def soft_gradient(y, temperature):
    """The gradient of ``softmax(x / temperature)`` along the cotangent, from its value."""
    return y * (COTANGENT - (COTANGENT * y).sum(-1, keepdims=True)) / temperature


OTHERS = {"snas", "gdas", "fair_darts", "drnas", "random_weight_sharing"}


@pytest.mark.parametrize("name", sorted(set(presets.PRESETS) - OTHERS))
def test_the_softmax_of_darts(name):
    expected = softmax(ALPHAS.astype(np.float64))
    mix, gradient = sampled(presets.PRESETS[name](), 3)
    np.testing.assert_allclose(mix, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, soft_gradient(expected, 1.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [0, 5, 10])
def test_the_concrete_samples_of_snas(step):
    """``softmax((log alpha + gumbel) / temperature)``, which falls linearly from 1 to 0.03."""
    temperature = (1 - step / 10) * (1 - 0.03) + 0.03
    expected = softmax((ALPHAS + gumbel()) / temperature)
    mix, gradient = sampled(presets.snas(), step)
    np.testing.assert_allclose(mix, expected, rtol=1e-4, atol=1e-6)
    expected = soft_gradient(expected, temperature)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [0, 5, 10])
def test_the_straight_through_samples_of_gdas(step):
    """One-hot forward, backward the gradient of the soft sample at 10 to 0.1."""
    temperature = (1 - step / 10) * (10 - 0.1) + 0.1
    soft = softmax((ALPHAS + gumbel()) / temperature)
    mix, gradient = sampled(presets.gdas(), step)
    np.testing.assert_array_equal(mix, np.eye(5)[soft.argmax(-1)])
    expected = soft_gradient(soft, temperature)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_the_sigmoids_of_fair_darts():
    expected = 1 / (1 + np.exp(-ALPHAS.astype(np.float64)))
    mix, gradient = sampled(presets.fair_darts(), 3)
    np.testing.assert_allclose(mix, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, COTANGENT * expected * (1 - expected), rtol=1e-5)


def test_the_dirichlet_samples_of_drnas():
    """Gradients by implicit reparameterisation of the gamma samples that make one of them."""
    concentration = np.where(ALPHAS > 0, ALPHAS + 1, np.exp(ALPHAS)).astype(np.float64)
    key = jax.random.fold_in(KEY, 0)
    logs = np.asarray(jax.random.loggamma(key, jnp.float32(concentration)), np.float64)
    expected = softmax(logs)
    mix, gradient = jax.jit(lambda: sampled(presets.drnas(), 3))()
    np.testing.assert_allclose(mix, expected, rtol=1e-5)

    # dg/dc = -(dF/dc) / f for the distribution function F and the density f of a gamma sample g.
    g, h = np.exp(logs), 1e-5
    below, above = (scipy.special.gammainc(concentration + s * h, g) for s in (-1, 1))
    slope = -(above - below) / (2 * h) / scipy.stats.gamma.pdf(g, concentration) / g
    elu = np.where(ALPHAS > 0, 1.0, np.exp(ALPHAS))
    expected = soft_gradient(expected, 1.0) * slope * elu
    np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=1e-4)


def test_the_uniform_paths_of_random_weight_sharing():
    relaxation = presets.random_weight_sharing().made("relaxation")
    tables = {"cell": jnp.tile(TABLES["cell"], (1000, 1))}
    mix = np.asarray(relaxation.sample(KEY, tables, jnp.int32(0))["cell"])
    assert set(np.unique(mix)) == {0, 1} and (mix.sum(-1) == 1).all()
    np.testing.assert_allclose(mix.mean(0), 0.2, atol=0.025)  # four standard deviations


# Mixed cells: two inputs, two nodes; operations without weights, in NumPy.

OPTIONS = ("none", "skip_connect", "avg_pool_3x3")
X = RNG.normal(size=(2, 2, 6, 6, 8)).astype(np.float32)  # two inputs


def avg_pool(x, stride):
    """Means of 3x3 windows over what is inside of the image."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    height = range(0, x.shape[1], stride)
    return np.stack(
        [
            np.stack([np.nanmean(padded[:, i : i + 3, j : j + 3], (1, 2)) for j in height], 1)
            for i in height
        ],
        1,
    )


def mixed_cell(mixing, mix, options=OPTIONS, stride=1, inputs=X, **modifiers):
    """Nodes of the library's cell."""
    part = parts.Part("cell", 2, 2, (options,) * 5, 1)
    cell = cells.MixedCell(
        inputs.shape[-1],
        *(2, 2, part.candidates),
        stride=stride,
        mixing=mixing,
        fused=FUSED,
        rngs=nnx.Rngs(0),
    )
    mix = {name: jnp.asarray(table, jnp.float32) for name, table in mix.items()}
    weights, _ = part.weights(mix, mixing)
    nodes = jax.jit(lambda states: cell(states, weights, **modifiers))(list(inputs))
    return [np.asarray(node) for node in nodes]


EDGES = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def plain_cell(edge, inputs=X):
    """Nodes as sums of ``edge(x, number, source)``."""
    states = list(inputs.astype(np.float64))
    for node in (2, 3):
        total = sum(edge(states[i], number, i) for number, (i, j) in enumerate(EDGES) if j == node)
        states.append(total)
    return states[2:]


@pytest.mark.parametrize("stride", [1, 2])
def test_the_partial_channels_of_pc_darts(stride):
    """A quarter of the channels is operated on, then channels are shuffled, edges are weighted."""
    mixing = presets.pc_darts().modified(spaces.NASBench201(channels=8)).mixing
    assert mixing == Mixing(partial=4, edge_normalization=True)
    options = OPTIONS if stride == 1 else ("none", "avg_pool_3x3")
    mix = {"cell": softmax(RNG.normal(size=(5, len(options))))}
    mix |= {"cell.2": softmax(RNG.normal(size=(1, 2))), "cell.3": softmax(RNG.normal(size=(1, 3)))}
    on_edges = np.concatenate([mix["cell.2"][0], mix["cell.3"][0]])

    def edge(x, number, source):
        weights, here = mix["cell"][number], stride if source < 2 else 1
        first, rest = x[..., :2], x[..., 2:]
        mixed = weights[-1] * avg_pool(first, here)
        if stride == 1:
            mixed = mixed + weights[1] * first
        if here == 2:
            b, h, w, c = rest.shape
            rest = rest.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        both = np.concatenate([mixed, rest], -1)
        b, h, w, c = both.shape
        shuffled = both.reshape(b, h, w, 4, c // 4).transpose(0, 1, 2, 4, 3).reshape(b, h, w, c)
        return on_edges[number] * shuffled

    found = mixed_cell(mixing, mix, options, stride)
    for node, expected in zip(found, plain_cell(edge), strict=True):
        np.testing.assert_allclose(node, expected, rtol=1e-5, atol=1e-5)


def test_the_auxiliary_skip_of_darts_minus():
    preset = presets.darts_minus()
    mixing = preset.modified(spaces.NASBench201()).mixing
    mix = {"cell": softmax(RNG.normal(size=(5, 3)))}
    beta = preset.made("auxiliary_skip", total_steps=STEPS)(3)
    np.testing.assert_allclose(beta, 1 - 3 / 10, rtol=1e-6)

    def edge(x, number, source):
        _, skip, pool = mix["cell"][number]
        return skip * x + pool * avg_pool(x, 1) + 0.7 * x

    found = mixed_cell(mixing, mix, auxiliary_skip=beta)
    for node, expected in zip(found, plain_cell(edge), strict=True):
        np.testing.assert_allclose(node, expected, rtol=1e-5, atol=1e-5)


def test_the_dropout_behind_skips_of_p_darts():
    """Elements of the identity are dropped or scaled by ``1 / (1 - p)``; poolings are as ever."""
    mix, p = {"cell": np.array([[0.0, 0.6, 0.4]] * 5)}, 0.3
    inputs = np.abs(X) + 1
    first, _ = mixed_cell(Mixing(), mix, inputs=inputs, key=KEY, skip_dropout=jnp.float32(p))
    pools = sum(0.4 * avg_pool(x.astype(np.float64), 1) for x in inputs)
    kept = [0.6 * x / (1 - p) for x in inputs.astype(np.float64)]
    # What is left of the two edges' skips is one of four sums, whose shares are as p says.
    sums = np.stack([0 * kept[0], kept[0], kept[1], kept[0] + kept[1]])
    distance = np.abs(first - pools - sums)
    assert (distance.min(0) < 1e-4).all()
    shares = np.bincount(distance.argmin(0).ravel(), minlength=4) / distance[0].size
    expected = [p * p, p * (1 - p), p * (1 - p), (1 - p) ** 2]
    np.testing.assert_allclose(shares, expected, atol=0.07)  # 576 elements
