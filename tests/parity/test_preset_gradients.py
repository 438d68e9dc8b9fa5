"""Each preset's optimizers, gradients and perturbations in plain NumPy, in float64.

The problems are small enough for closed forms. What is tested are the parts of the presets
themselves, with their numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas import presets, spaces
from dnas.gradient import alignment, hypergrad
from dnas.gradient.hypergrad import Problem

RNG = np.random.default_rng(0)
STEPS = 11
SPACE = spaces.NASBench201()


def close(found, expected, rtol=1e-5, atol=1e-7):
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=rtol, atol=atol)


# Optimizers, as PyTorch has them.


def sgd(preset, w, gradients):
    """Clipped, decayed, with momentum and a cosine of the learning rate; the weights after all."""
    buffer = np.zeros_like(w)
    for t, g in enumerate(gradients):
        norm = np.linalg.norm(g)
        g = g * min(1.0, preset.clip_norm / norm)
        buffer = preset.momentum * buffer + g + preset.weight_decay * w
        first, last = preset.learning_rate, preset.final_learning_rate
        rate = last + (first - last) * (1 + np.cos(np.pi * t / STEPS)) / 2
        w = w - rate * buffer
    return w


def adam(preset, a, gradients):
    """With the decay in the gradient."""
    one, two = preset.alpha_betas
    m = v = np.zeros_like(a)
    for t, g in enumerate(gradients, 1):
        g = g + preset.alpha_weight_decay * a
        m, v = one * m + (1 - one) * g, two * v + (1 - two) * g**2
        step = m / (1 - one**t) / (np.sqrt(v / (1 - two**t)) + 1e-8)
        a = a - preset.alpha_learning_rate * step
    return a


def after(optimizer, x, gradients):
    x = jnp.asarray(x, jnp.float32)
    state = optimizer.init(x)
    for g in gradients:
        updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, x)
        x = optax.apply_updates(x, updates)
    return x


@pytest.mark.parametrize("name", presets.PRESETS)
def test_three_steps_of_both_optimizers(name):
    preset = presets.PRESETS[name]()
    x = RNG.normal(size=4)
    gradients = [RNG.normal(size=4), 30 * RNG.normal(size=4), RNG.normal(size=4)]  # one is clipped
    close(after(preset.weight_optimizer(STEPS), x, gradients), sgd(preset, x, gradients))
    close(after(preset.alpha_optimizer(), x, gradients), adam(preset, x, gradients))


# Regularizers of alphas.


def regularizer_gradient(preset, tables, step):
    (term,) = preset.made("regularizers", total_steps=STEPS)
    return jax.grad(lambda t: term(t, t, jnp.int32(step))[0])(tables)


@pytest.mark.parametrize(("name", "weight"), [("beta_darts", 50.0), ("dnas", 5.0)])
def test_beta_decay(name, weight):
    """``weight * step / last * softmax / rows``: the derivative of the mean logsumexp."""
    tables = {n: RNG.normal(size=(rows, 5)) for n, rows in (("normal", 4), ("reduce", 2))}
    jax_tables = {n: jnp.asarray(t, jnp.float32) for n, t in tables.items()}
    for step in (0, 3, 10):
        found = regularizer_gradient(presets.PRESETS[name](), jax_tables, step)
        for n, t in tables.items():
            softmax = np.exp(t) / np.exp(t).sum(-1, keepdims=True)
            close(found[n], weight * step / 10 * softmax / 6)


def test_the_zero_one_loss_of_fair_darts():
    """``-10 * mean((sigmoid - 0.5) ** 2)`` over all edges and operations of DARTS but none."""
    space = presets.fair_darts().modified(spaces.DARTS())
    shapes = {n: (len(d.rows), len(d.options)) for n, d in space.decisions.items()}
    assert shapes == {"normal": (14, 7), "reduce": (14, 7)}
    tables = {n: RNG.normal(size=shape) for n, shape in shapes.items()}
    found = regularizer_gradient(
        presets.fair_darts(), {n: jnp.asarray(t, jnp.float32) for n, t in tables.items()}, 3
    )
    for n, t in tables.items():
        s = 1 / (1 + np.exp(-t))
        close(found[n], -10 * 2 * (s - 0.5) * s * (1 - s) / (2 * 14 * 7))


# Hypergradients: L_train = w'Hw/2 - w'Ba, L_valid = |w - c|^2 / 2 + d'a.

ROOT = RNG.normal(size=(4, 4))
H, B = ROOT @ ROOT.T / 4 + np.eye(4), RNG.normal(size=(4, 3))
C, D, W, A, M = (0.3 * RNG.normal(size=n) for n in (4, 3, 4, 3, 4))


def quadratic(preset):
    """The preset's estimate, with a momentum M behind it."""
    optimizer = preset.weight_optimizer(STEPS)
    w, a = jnp.asarray(W, jnp.float32), {"t": jnp.asarray(A, jnp.float32)}
    state = optax.tree.set(optimizer.init(w), trace=jnp.asarray(M, jnp.float32))
    problem = Problem(
        lambda w, a: w @ H @ w / 2 - w @ B @ a["t"],
        lambda w, a: (jnp.square(w - C).sum() / 2 + D @ a["t"], None),
        optimizer,
    )
    return preset.made("hypergradient")(problem, w, state, a)[0]["t"]


FIRST = (
    *("darts", "gdas", "pc_darts", "p_darts", "fair_darts", "darts_minus", "drnas", "sdarts_rs"),
    *("sdarts_adv", "r_darts", "darts_plus", "darts_pt", "beta_darts", "lambda_darts", "oles"),
    "dnas",
)


def test_every_preset_has_one_of_four_hypergradients():
    second, implicit = {"darts_second_order"}, {"i_darts"}
    joint, none = {"single_level", "snas"}, {"random_weight_sharing"}
    assert {*FIRST} | second | implicit | joint | none == set(presets.PRESETS)
    for name in FIRST:
        close(quadratic(presets.PRESETS[name]()), D)
    for name in joint:
        close(quadratic(presets.PRESETS[name]()), -B.T @ W)
    close(quadratic(presets.random_weight_sharing()), np.zeros(3))


def test_the_exact_second_order_of_darts_second_order():
    """``d + lr B'(w' - c)`` at the weights after a step with momentum and decay."""
    preset = presets.darts_second_order()
    step = preset.momentum * M + (H @ W - B @ A) + preset.weight_decay * W
    after = W - preset.learning_rate * step
    close(quadratic(preset), D + preset.learning_rate * B.T @ (after - C), rtol=1e-4)


def test_the_series_of_i_darts():
    """``d + B' v`` with ``v = lr * sum over k = 0, 1, 2 of (I - lr H)^k (w - c)``, lr = 0.01."""
    factor = np.eye(4) - 0.01 * H
    v = 0.01 * (np.eye(4) + factor + factor @ factor) @ (W - C)
    close(quadratic(presets.i_darts()), D + B.T @ v, rtol=1e-5)


def test_steps_whose_gradient_is_clipped():
    """Through the clipping, exactly and by central differences of the published radius.

    L_train = sin(w)'Pa + sum(w^2 exp(Qa)) / 2, L_valid as above.
    """
    p, q = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    limit, radius = 0.1, 0.01

    def train_loss(w, a):
        return jnp.sin(w) @ (p @ a["t"]) + (w**2 * jnp.exp(q @ a["t"])).sum() / 2

    def in_alphas(w):
        return p.T @ np.sin(w) + q.T @ (w**2 * np.exp(q @ A)) / 2

    preset = presets.darts(clip_norm=limit)
    optimizer = preset.weight_optimizer(STEPS)
    w, a = jnp.asarray(W, jnp.float32), {"t": jnp.asarray(A, jnp.float32)}
    state = optax.tree.set(optimizer.init(w), trace=jnp.asarray(M, jnp.float32))
    problem = Problem(
        train_loss, lambda w, a: (jnp.square(w - C).sum() / 2 + D @ a["t"], None), optimizer
    )

    gradient = np.cos(W) * (p @ A) + W * np.exp(q @ A)
    norm = np.linalg.norm(gradient)
    assert norm > 5 * limit
    clipped, unit = gradient * limit / norm, gradient / norm
    rate = preset.learning_rate
    after = W - rate * (clipped + preset.weight_decay * W + preset.momentum * M)
    # The derivative of the clipping takes away what points along the gradient.
    u = after - C
    direction = -rate * limit / norm * (u - unit * (unit @ u))
    exact = p.T @ (np.cos(W) * direction) + q.T @ (W * np.exp(q @ A) * direction)
    epsilon = radius / np.linalg.norm(direction)
    difference = in_alphas(W + epsilon * direction) - in_alphas(W - epsilon * direction)

    found = hypergrad.unrolled()(problem, w, state, a)[0]["t"]
    close(found - D, exact, rtol=1e-3, atol=1e-6)
    found = hypergrad.finite_difference(radius)(problem, w, state, a)[0]["t"]
    close(found - D, difference / (2 * epsilon), rtol=1e-3, atol=1e-6)
    assert np.abs(exact).max() > 1e-4


# Perturbations of the mix, at half of the search: a radius of 0.165.

MIX = RNG.dirichlet(np.ones(5), size=4)
SLOPES = RNG.normal(size=MIX.shape)


def valid(values, like):
    clipped = np.clip(values, 0, 1)
    return clipped * like.sum(-1, keepdims=True) / clipped.sum(-1, keepdims=True)


def perturbed(name, key):
    perturb = presets.PRESETS[name]().made("perturbation", total_steps=STEPS)
    mix = {"cell": jnp.asarray(MIX, jnp.float32)}

    def loss(mix):
        return jnp.exp(SLOPES * mix["cell"]).sum()

    return jax.jit(lambda key, step: perturb(key, loss, mix, step))(key, jnp.int32(5))["cell"]


@pytest.mark.parametrize("name", ["sdarts_rs", "sdarts_adv"])
def test_the_perturbations_of_sdarts(name):
    radius, key = 0.03 + (0.3 - 0.03) / 2, jax.random.key(3)
    noise = np.asarray(jax.random.uniform(jax.random.fold_in(key, 0), MIX.shape, minval=-1))
    now = valid(MIX + radius * noise, MIX)
    if name == "sdarts_adv":
        for _ in range(7):
            ascent = 2 * radius / 7 * np.sign(SLOPES * np.exp(SLOPES * now))
            now = valid(MIX + np.clip(now + ascent - MIX, -radius, radius), MIX)
        assert np.exp(SLOPES * now).sum() > np.exp(SLOPES * MIX).sum()
    close(perturbed(name, key), now, rtol=1e-4, atol=1e-5)


def test_the_alignment_of_lambda_darts_and_its_gradient():
    """The direction of the authors' program: ``2 / n(n-1) (I - u u') (sum of units) / |g|``."""
    g = RNG.normal(size=(3, 6, 5))
    flat = g.reshape(3, -1)
    norms = np.linalg.norm(flat, axis=-1, keepdims=True)
    units = flat / norms
    total = units.sum(0)
    direction = (total - units * (units @ total)[:, None]) / norms / 3  # three pairs
    tables = {"cell": jnp.asarray(g, jnp.float32)}
    value, gradient = jax.value_and_grad(alignment.alignment)(tables)
    close(value, sum(units[i] @ units[j] for i, j in ((0, 1), (0, 2), (1, 2))) / 3)
    close(gradient["cell"], direction.reshape(g.shape), atol=1e-6)
