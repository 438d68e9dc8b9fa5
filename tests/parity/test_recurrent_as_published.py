"""Recurrent cells against the published definitions, written down once more in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import hypergrad, relax
from dnas.gradient.bilevel import bilevel
from dnas.spaces import Recurrent
from dnas.spaces import recurrent_networks as networks
from dnas.tasks import LanguageModelling

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
        width = len(row)
        for c in range(width):
            gate = FUNCTIONS["sigmoid"]((row * mask[b]) @ kernel[:, c])
            value = FUNCTIONS[name]((row * mask[b]) @ kernel[:, width + c])
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


def unrolled(p, weights, tokens, targets, carry):
    """Loss of the search network on a window, and the state that it leaves."""
    width, losses = carry.shape[1], []
    for time in range(tokens.shape[1]):
        x = p["embedding"][tokens[:, time]]
        gate, value = np.split(np.concatenate([x, carry], 1) @ p["entry"], [width], 1)
        first = carry + FUNCTIONS["sigmoid"](gate) * (np.tanh(value) - carry)
        carry = mixed(first, p["kernels"], np.ones_like(first), weights)
        logits = carry @ p["embedding"].T + p["bias"]
        log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses.append(-log[np.arange(len(log)), targets[:, time]])
    return np.mean(losses), carry


def softmax(alphas):
    exponentials = np.exp(alphas)
    return exponentials / exponentials.sum(1, keepdims=True)


def test_a_step_of_the_first_order_search():
    space = Recurrent(
        channels=3, nodes=2, input_dropout=0, cell_dropout=0, hidden_dropout=0, output_dropout=0
    )
    search = bilevel(
        space,
        LanguageModelling(4, length=2),
        relaxation=relax.softmax(),
        hypergradient=hypergrad.first_order(),
        weight_optimizer=optax.sgd(1.0),
        alpha_optimizer=optax.sgd(1.0),
        carry=space.initial_carry(5),
        alpha_scale=1.0,
    )
    state = search.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), state.params)
    carries = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in ("train", "valid")}
    tokens = rng.integers(0, 4, (4, 5, 2)).astype(np.int32)
    batches = [
        {"tokens": tokens[i], "targets": tokens[i + 1], "reset": np.zeros(5, bool)} for i in (0, 2)
    ]
    state = state._replace(params=params, carry=carries)
    new, metrics = jax.jit(search.step)(state, *batches)

    exact = {**params["head"], "entry": params["entry"], "kernels": params["kernels"]}
    exact = {name: np.asarray(x, np.float64) for name, x in exact.items()}
    alphas = np.asarray(state.alphas["recurrent"], np.float64)
    windows = [
        (b["tokens"], b["targets"], np.float64(carries[n]))
        for b, n in zip(batches, ("train", "valid"), strict=True)
    ]
    # Alphas move first, along the gradient of the validation loss.
    valid, left = unrolled(exact, softmax(alphas), *windows[1])
    assert float(metrics["valid"]["loss"]) / 10 == pytest.approx(valid, rel=1e-5)
    np.testing.assert_allclose(new.carry["valid"], left, rtol=1e-4, atol=1e-5)
    gradient = slopes(lambda a: unrolled(exact, softmax(a), *windows[1])[0], {"a": alphas})["a"]
    moved = np.asarray(new.alphas["recurrent"])
    np.testing.assert_allclose(alphas - moved, gradient, rtol=1e-3, atol=2e-5)
    # Then the weights, along that of the training loss at the new alphas.
    train, left = unrolled(exact, softmax(np.float64(moved)), *windows[0])
    assert float(metrics["train"]["loss"]) / 10 == pytest.approx(train, rel=1e-5)
    np.testing.assert_allclose(new.carry["train"], left, rtol=1e-4, atol=1e-5)
    gradients = slopes(lambda **p: unrolled(p, softmax(np.float64(moved)), *windows[0])[0], exact)
    for name, wanted in gradients.items():
        found = {**new.params["head"], **new.params}[name]
        np.testing.assert_allclose(
            exact[name] - np.asarray(found), wanted, rtol=2e-3, atol=5e-5, err_msg=name
        )
