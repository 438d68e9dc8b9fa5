"""Hypergradients against closed forms, against naive differentiation, and against each other."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import hypergrad

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.05


def quadratic(seed=0):
    """``L_train = (w - A a)' H (w - A a) / 2`` and ``L_valid = |w - b|^2 / 2 + c' a``."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4))
    h, a = root @ root.T / 4 + np.eye(4), rng.normal(size=(4, 3))
    b, c = rng.normal(size=4), rng.normal(size=3)
    return h, a, b, c, rng.normal(size=4), rng.normal(size=4), rng.normal(size=3)


def as_problem(h, a, b, c, optimizer):
    def train_loss(w, alphas):
        r = w - a @ alphas["t"]
        return r @ h @ r / 2

    def valid_loss(w, alphas):
        return jnp.square(w - b).sum() / 2 + c @ alphas["t"], "auxiliary"

    return hypergrad.Problem(train_loss, valid_loss, optimizer)


def closed_form(steps, h, a, b, c, w, trace, alphas):
    """SGD with momentum and decay on the quadratic, and its derivative carried forward by hand."""
    dw, dtrace = np.zeros((4, 3)), np.zeros((4, 3))
    for _ in range(steps):
        trace = MOMENTUM * trace + h @ (w - a @ alphas) + DECAY * w
        dtrace = MOMENTUM * dtrace + h @ (dw - a) + DECAY * dw
        w, dw = w - RATE * trace, dw - RATE * dtrace
    return c + dw.T @ (w - b)


def sgd():
    return optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM))


def with_trace(state, trace):
    """The optimizer's state with this momentum."""
    return jax.tree.map(lambda x: jnp.asarray(trace) if x.shape == trace.shape else x, state)


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (hypergrad.first_order(), 0),
        (hypergrad.unrolled(), 1),
        (hypergrad.unrolled(3), 3),
        (hypergrad.finite_difference(), 1),
    ],
)
def test_closed_form_of_the_quadratic(method, steps):
    h, a, b, c, w, trace, alphas = quadratic()
    optimizer = sgd()
    state = with_trace(optimizer.init(jnp.asarray(w)), trace)
    problem = as_problem(*map(jnp.asarray, (h, a, b, c)), optimizer)
    gradient, auxiliary = method(problem, jnp.asarray(w), state, {"t": jnp.asarray(alphas)})
    expected = closed_form(steps, h, a, b, c, w, trace, alphas)
    np.testing.assert_allclose(gradient["t"], expected, rtol=1e-4)
    assert auxiliary == "auxiliary"
    # The second-order part is no small thing here: first order would not pass for it.
    if steps:
        assert np.abs(expected - c).max() > 0.1


def test_finite_differences_have_the_published_radius():
    """``L_train = sum((w ** 3) * M a)`` at w = 0, where only the step's length is left of it."""
    rng = np.random.default_rng(0)
    m, b = rng.normal(size=(4, 3)), rng.normal(size=4)
    problem = hypergrad.Problem(
        lambda w, alphas: (w**3 * (jnp.asarray(m) @ alphas["t"])).sum(),
        lambda w, alphas: (jnp.asarray(b) @ w, None),
        optax.sgd(RATE),
    )
    arguments = problem, jnp.zeros(4), optax.sgd(RATE).init(jnp.zeros(4)), {"t": jnp.ones(3)}
    epsilon = 0.01 / np.linalg.norm(b)
    gradient, _ = hypergrad.finite_difference()(*arguments)
    np.testing.assert_allclose(gradient["t"], -RATE * m.T @ (epsilon**2 * b**3), rtol=1e-4)
    exact, _ = hypergrad.unrolled()(*arguments)
    np.testing.assert_array_equal(exact["t"], 0.0)


def test_controls_of_alphas():
    """The single-level gradient is that of the training loss; the frozen one is nothing."""
    h, a, b, c, w, _, alphas = quadratic()
    problem = as_problem(*map(jnp.asarray, (h, a, b, c)), sgd())
    arguments = problem, jnp.asarray(w), None, {"t": jnp.asarray(alphas)}
    gradient, auxiliary = hypergrad.joint()(*arguments)
    np.testing.assert_allclose(gradient["t"], -a.T @ h @ (w - a @ alphas), rtol=1e-5)
    assert auxiliary == "auxiliary"
    gradient, auxiliary = hypergrad.frozen()(*arguments)
    np.testing.assert_array_equal(gradient["t"], np.zeros(3))
    assert auxiliary == "auxiliary"


def naive(problem, params, opt_state, alphas, steps):
    """Plain reverse-over-reverse differentiation through the steps."""

    def loss(alphas):
        w, state = params, opt_state
        for _ in range(steps):
            gradient = jax.grad(problem.train_loss)(w, alphas)
            updates, state = problem.optimizer.update(gradient, state, w)
            w = optax.apply_updates(w, updates)
        return problem.valid_loss(w, alphas)[0]

    return jax.grad(loss)(alphas)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "optimizer",
    [optax.chain(optax.clip_by_global_norm(0.5), sgd()), optax.adam(0.05, eps_root=1e-8)],
)
def test_other_optimizers_against_naive_differentiation(optimizer, steps):
    *numbers, w, _, alphas = map(jnp.asarray, quadratic(1))
    problem = as_problem(*numbers, optimizer)
    arguments = (problem, w, optimizer.init(w), {"t": alphas})
    gradient, _ = hypergrad.unrolled(steps)(*arguments)
    chex.assert_trees_all_close(gradient, naive(*arguments, steps), rtol=1e-4)


def test_replicas_average_the_single_level_gradient():
    *numbers, w, _, alphas = (jnp.stack(x) for x in zip(*map(quadratic, range(3)), strict=True))
    w, alphas = w[0], {"t": alphas[0]}

    def of_replica(*numbers):
        problem = as_problem(*numbers, sgd())
        problem = problem._replace(mean=lambda tree: jax.lax.pmean(tree, "replicas"))
        return hypergrad.joint()(problem, w, None, alphas)[0]["t"]

    found = jax.vmap(of_replica, axis_name="replicas")(*numbers)
    problems = [as_problem(*n, sgd()) for n in zip(*numbers, strict=True)]
    each = [jax.grad(problem.train_loss, 1)(w, alphas)["t"] for problem in problems]
    np.testing.assert_allclose(found, [sum(each) / 3] * 3, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2])
def test_replicas_average_inside_and_outside_of_the_unrolled_steps(steps):
    """Against the gradient of the replicas' mean validation loss, without any axis of replicas."""
    replicas = 3
    *numbers, w, _, alphas = (jnp.stack(x) for x in zip(*map(quadratic, range(3)), strict=True))
    w, alphas = w[0], {"t": alphas[0]}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), sgd())
    state = optimizer.init(w)

    def of_replica(*numbers):
        problem = as_problem(*numbers, optimizer)
        problem = problem._replace(mean=lambda tree: jax.lax.pmean(tree, "replicas"))
        return hypergrad.unrolled(steps)(problem, w, state, alphas)[0]

    found = jax.vmap(of_replica, axis_name="replicas")(*numbers)

    problems = [as_problem(*(x[r] for x in numbers), optimizer) for r in range(replicas)]

    def average(losses):
        return sum(losses) / replicas

    together = hypergrad.Problem(
        lambda w, a: average(p.train_loss(w, a) for p in problems),
        lambda w, a: (average(p.valid_loss(w, a)[0] for p in problems), ()),
        optimizer,
    )
    expected = naive(together, w, state, alphas, steps)["t"]
    for replica in range(replicas):
        np.testing.assert_allclose(found["t"][replica], expected, rtol=1e-4)


def test_no_inner_step_is_refused():
    with pytest.raises(ValueError, match=r"^steps=0"):
        hypergrad.unrolled(0)
