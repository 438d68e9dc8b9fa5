"""Recurrent cells against the published definitions, written down once more in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.spaces import recurrent_networks as networks

BATCH, WIDTH, NODES = 5, 4, 3
OPTIONS = ("none", "tanh", "relu", "sigmoid", "identity")
FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


def draw(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "state": rng.normal(size=(BATCH, WIDTH)),
        "kernels": rng.normal(size=(NODES, WIDTH, 2 * WIDTH)),
        "mask": rng.integers(0, 2, (BATCH, WIDTH)) / 0.5,
        "weights": rng.dirichlet(np.ones(5), NODES * (NODES + 1) // 2),
    }


def edge(state, kernel, mask, name):
    """What one edge makes of a state, one image and one channel after the other."""
    new = np.empty_like(state)
    for b, row in enumerate(state):
        for c in range(WIDTH):
            gate = FUNCTIONS["sigmoid"]((row * mask[b]) @ kernel[:, c])
            value = FUNCTIONS[name]((row * mask[b]) @ kernel[:, WIDTH + c])
            new[b, c] = row[c] + gate * (value - row[c])
    return new


def normal(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def mixed(state, kernels, mask, weights):
    states = [normal(state)]
    table = iter(weights)
    for kernel in kernels:
        total = np.zeros_like(state)
        for source in list(states):
            for name, p in zip(OPTIONS, next(table), strict=True):
                if name != "none":
                    total += p * edge(source, kernel, mask, name)
        states.append(normal(total))
    return np.mean(states[1:], 0)


def discrete(state, kernels, mask, nodes, output):
    states = [state]
    for kernel, (name, source) in zip(kernels, nodes, strict=True):
        states.append(edge(states[source], kernel, mask, name))
    return np.mean([states[node] for node in output], 0)


def slopes(function, arrays, step=1e-6):
    """The gradient of a scalar function by central differences, for each array by name."""
    found = {}
    for name, array in arrays.items():
        found[name] = np.empty_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                ends.append(function(**{**arrays, name: moved}))
            found[name][index] = (ends[0] - ends[1]) / (2 * step)
    return found


NODES_OF = (("sigmoid", 0), ("relu", 1), ("tanh", 1))


@pytest.mark.parametrize("output", [(1, 2, 3), (2, 3)])
def test_discrete_cell_and_its_gradient(output):
    arrays = draw()
    mask, del_weights = arrays.pop("mask"), arrays.pop("weights")
    del del_weights
    target = np.random.default_rng(1).normal(size=(BATCH, WIDTH))

    def ours(state, kernels):
        sides = networks.by_source(kernels, NODES_OF)
        return networks.discrete_cell(state, sides, NODES_OF, output, jnp.asarray(mask))

    with jax.enable_x64():
        found = jax.jit(ours)(**arrays)
        np.testing.assert_allclose(
            found, discrete(**arrays, mask=mask, nodes=NODES_OF, output=output), rtol=1e-12
        )
        gradient = jax.grad(lambda s, k: (ours(s, k) * target).sum(), (0, 1))(
            arrays["state"], arrays["kernels"]
        )
    wanted = slopes(
        lambda state, kernels: (discrete(state, kernels, mask, NODES_OF, output) * target).sum(),
        arrays,
    )
    np.testing.assert_allclose(gradient[0], wanted["state"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient[1], wanted["kernels"], rtol=1e-5, atol=1e-7)


def test_mixed_cell_and_its_gradient():
    arrays = draw()
    mask = arrays.pop("mask")
    target = np.random.default_rng(1).normal(size=(BATCH, WIDTH))

    def ours(state, kernels, weights):
        return networks.mixed_cell(state, list(kernels), weights, OPTIONS, jnp.asarray(mask))

    names = ("state", "kernels", "weights")
    with jax.enable_x64():
        found = jax.jit(ours)(**arrays)
        np.testing.assert_allclose(found, mixed(**arrays, mask=mask), rtol=1e-11, atol=1e-12)
        gradient = jax.grad(lambda *a: (ours(*a) * target).sum(), (0, 1, 2))(
            *(arrays[name] for name in names)
        )
    wanted = slopes(lambda **a: (mixed(**a, mask=mask) * target).sum(), arrays)
    for name, ours_of in zip(names, gradient, strict=True):
        np.testing.assert_allclose(ours_of, wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert not np.asarray(gradient[2][:, 0]).any()  # 'none' hands on nothing, whatever its weight


def test_a_mixture_that_chooses_is_the_discrete_cell_but_for_its_normalisation(monkeypatch):
    monkeypatch.setattr(networks, "normalise", lambda x: x)
    arrays = draw()
    weights = np.zeros((6, 5))
    for node, (name, source) in enumerate(NODES_OF, 1):
        weights[node * (node - 1) // 2 + source, OPTIONS.index(name)] = 1
    with jax.enable_x64():
        found = networks.mixed_cell(
            arrays["state"], list(arrays["kernels"]), weights, OPTIONS, arrays["mask"]
        )
    wanted = discrete(arrays["state"], arrays["kernels"], arrays["mask"], NODES_OF, (1, 2, 3))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
