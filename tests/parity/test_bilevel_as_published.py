"""Two iterations of each order against the published program's rules in float64 NumPy.

An iteration is Algorithm 1 of DARTS (Liu et al., 2019): alphas by Adam with decay, along the
hypergradient of the validation loss, and then the weights by SGD with clipping, decay, momentum
and a cosine. Compared are weights, momentum, alphas and both moments of Adam after two
iterations, and the losses of the last one. They agree to 3e-5 of the largest entry of each array
in first order and where the step is differentiated exactly, to 2e-4 by finite differences, which
amplify rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import published
import pytest
import tape
from plain import Plain, means

from dnas import presets
from dnas.gradient import hypergrad
from dnas.spaces import NASBench201

SPACE, TASK = NASBench201(channels=2, cells=1, stages=1, nodes=3), Plain((6, 6, 1), 3)
RATE, LAST_RATE, MOMENTUM, DECAY, ALPHA_RATE, ALPHA_DECAY = 0.1, 0.001, 0.9, 0.1, 0.01, 0.2
STEPS, SIZE = 4, 8


def batch(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (SIZE, *TASK.image_shape)).astype(np.uint8)
    return {"image": image, "label": rng.integers(0, 3, SIZE).astype(np.int32)}


class Loss:
    """The supernet's loss on a batch, and its gradients, of weights in one vector."""

    def __init__(self, params, data):
        self.params, self.data = params, data

    def __call__(self, w, alphas):
        """Loss, gradient in weights, gradient in alphas."""
        p, leaves = tape.variables(unflatten(self.params, w))
        alphas = tape.var(alphas)
        table = tape.softmax(alphas)

        def cell(p, x):
            return published.mixed_cell(p, [x], SPACE.nodes - 1, table, SPACE.operations)[-1]

        images = tape.Var(self.data["image"] / 128 - 1)
        norm = published.Norm("search")
        logits = published.nas_bench_201(p, images, SPACE.cells, cell, norm)
        loss = tape.cross_entropy(logits, self.data["label"])
        *weights, architecture = tape.gradients(loss, [*leaves, alphas])
        return loss.value, np.concatenate([g.ravel() for g in weights]), architecture


def flatten(tree):
    return np.concatenate([leaf.value.ravel() for leaf in tape.variables(tree)[1]])


def unflatten(tree, w):
    """The nested dictionary with the entries of a vector, in sorted order."""

    def take(tree):
        nonlocal w
        if isinstance(tree, dict):
            return {key: take(tree[key]) for key in sorted(tree)}
        mine, w = w[: tree.size], w[tree.size :]
        return mine.reshape(tree.shape)

    return take(tree)


def clip(g, largest):
    return g * min(1, largest / np.linalg.norm(g))


def hypergradient(order, train, valid, w, trace, alphas, rate, largest):
    """The validation loss after one step of the weights, or before it, and its gradient."""
    if order == "first":
        loss, _, direct = valid(w, alphas)
        return loss, direct
    _, g, _ = train(w, alphas)
    ahead = w - rate * (MOMENTUM * trace + clip(g, largest) + DECAY * w)
    loss, v, direct = valid(ahead, alphas)
    norm = np.linalg.norm(g)
    if norm > largest:  # the derivative of clipping takes the part along the gradient away
        v = largest / norm * (v - g * (g @ v) / norm**2)
    radius = 0.01 if order == "finite difference" else 1e-4  # the latter is exact in float64
    epsilon = radius / np.linalg.norm(v)
    plus, minus = (train(w + sign * epsilon * v, alphas)[2] for sign in (1, -1))
    return loss, direct - rate * (plus - minus) / (2 * epsilon)


def iterate(order, params, alphas, batches, largest):
    """The published iterations.

    Returns:
      What is compared, and how much of the last hypergradient is of second order.
    """
    w = flatten(params)
    trace, m, v = np.zeros_like(w), np.zeros_like(alphas), np.zeros_like(alphas)
    for i, data in enumerate(batches):
        train, valid = (Loss(params, d) for d in data)
        rate = LAST_RATE + (RATE - LAST_RATE) * (1 + np.cos(np.pi * i / STEPS)) / 2
        loss, g = hypergradient(order, train, valid, w, trace, alphas, rate, largest)
        second = np.abs(g - valid(w, alphas)[2]).max() / np.abs(g).max()
        g = g + ALPHA_DECAY * alphas
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
        mean, square = m / (1 - 0.5 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
        alphas = alphas - ALPHA_RATE * mean / (np.sqrt(square) + 1e-8)
        train_loss, g, _ = train(w, alphas)
        trace = MOMENTUM * trace + clip(g, largest) + DECAY * w
        w = w - rate * trace
    return (w, trace, alphas, m, v, train_loss, loss), second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "method", "largest", "share"),
    [
        ("first", hypergrad.first_order(), 0.1, 3e-5),
        ("finite difference", hypergrad.finite_difference(), 5.0, 2e-4),  # as published: no clip
        ("finite difference", hypergrad.finite_difference(), 0.1, 2e-4),
        ("exact", hypergrad.unrolled(), 0.1, 3e-5),
    ],
)
def test_two_iterations(order, method, largest, share):
    preset = presets.darts(
        hypergradient=method,
        learning_rate=RATE,
        final_learning_rate=LAST_RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        clip_norm=largest,
        alpha_learning_rate=ALPHA_RATE,
        alpha_weight_decay=ALPHA_DECAY,
    )
    search = preset.build(
        *(SPACE, TASK),
        steps_per_epoch=STEPS,
        epochs=1,
    )
    rng = np.random.default_rng(0)
    state = jax.eval_shape(search.init, jax.random.key(0))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state._replace(key=None))
    params = jax.tree.map(
        lambda s: rng.uniform(-0.5, 0.5, s.shape).astype(np.float32), state.params
    )
    alphas = rng.normal(size=state.alphas["cell"].shape).astype(np.float32)
    state = zero._replace(key=jax.random.key(0), params=params, alphas={"cell": alphas})
    batches = [(batch(0), batch(1)), (batch(2), batch(3))]
    program = jax.jit(search.step).lower(state, *batches[0])
    step = program.compile({"xla_backend_optimization_level": 0})
    for data in batches:
        state, metrics = step(state, *data)

    expected, second = iterate(order, params, alphas.astype(np.float64), batches, largest)
    assert order == "first" or second > 0.01  # or the first order would pass for it
    trace = optax.tree.get(state.weight_opt, "trace")
    moments = (optax.tree.get(state.alpha_opt, name)["cell"] for name in ("mu", "nu"))
    losses = means(metrics)["train_loss"], means(metrics)["valid_loss"]
    found = flatten(state.params), flatten(trace), state.alphas["cell"], *moments, *losses
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=share * np.abs(theirs).max())
