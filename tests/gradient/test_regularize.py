"""Regularizers against their definitions and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import regularize, relax

ALPHAS = {
    "a": jnp.array([[0.3, 1.2, -1.0], [2.0, 0.1, -0.4]]),
    "b": jnp.array([[0.5, -1.5]]),
}
MIX = relax.softmax_tables(ALPHAS)
STEP = jnp.int32(0)
ROWS = [np.asarray(row, np.float64) for table in ALPHAS.values() for row in table]


def value(regularizer, alphas=ALPHAS, mix=MIX, step=STEP):
    """Term and unweighted value."""
    term, metrics = regularizer(alphas, mix, step)
    assert term.shape == ()
    (metric,) = metrics.values()
    return float(term), float(metric)


def gradient(regularizer):
    return jax.grad(lambda alphas: regularizer(alphas, relax.softmax_tables(alphas), STEP)[0])(
        ALPHAS
    )


def test_beta_decay_and_its_gradient_the_softmax():
    term, metric = value(regularize.beta_decay(3.0))
    expected = np.mean([np.log(np.exp(row).sum()) for row in ROWS])
    np.testing.assert_allclose([term, metric], [3 * expected, expected], rtol=1e-6)
    for name, found in gradient(regularize.beta_decay(3.0)).items():
        np.testing.assert_allclose(found, 3 * MIX[name] / len(ROWS), rtol=1e-5)


def test_weights_follow_schedules_without_recompiling():
    regularizer = regularize.beta_decay(optax.linear_schedule(0.0, 50.0, 100))
    traces = []

    @jax.jit
    def term(step):
        traces.append(step)
        return regularizer(ALPHAS, MIX, step)

    (first, metrics), (middle, _) = term(jnp.int32(0)), term(jnp.int32(50))
    assert len(traces) == 1
    assert first == 0
    np.testing.assert_allclose(middle, 25 * metrics["beta_decay"], rtol=1e-6)


def test_zero_one_loss_is_lowest_at_zero_and_one():
    entries = np.concatenate(ROWS)
    expected = -np.mean((1 / (1 + np.exp(-entries)) - 0.5) ** 2)
    np.testing.assert_allclose(value(regularize.zero_one()), [10 * expected, expected], rtol=1e-5)
    for name, found in gradient(regularize.zero_one()).items():
        assert (np.sign(found) == -np.sign(ALPHAS[name])).all()
    decided = {"t": jnp.array([[-100.0, 100.0]])}
    assert value(regularize.zero_one(), decided, decided)[1] == -0.25


def test_entropy_of_soft_sparse_and_unnormalised_mixes():
    p = [np.exp(row) / np.exp(row).sum() for row in ROWS]
    expected = np.mean([-(q * np.log(q)).sum() for q in p])
    np.testing.assert_allclose(value(regularize.entropy(2.0)), [2 * expected, expected], rtol=1e-5)
    wide = {name: 3 * table for name, table in MIX.items()}
    np.testing.assert_allclose(value(regularize.entropy(1.0), mix=wide)[1], expected, rtol=1e-5)

    def sparse(mix):
        return regularize.entropy(1.0)(ALPHAS, {"t": mix}, STEP)[0]

    found, slope = jax.value_and_grad(sparse)(jnp.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]]))
    np.testing.assert_allclose(found, -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / 2, rtol=1e-5)
    assert np.isfinite(slope).all()


def test_l2_has_alphas_for_its_gradient():
    expected = sum((row**2).sum() for row in ROWS) / 2
    np.testing.assert_allclose(value(regularize.l2(0.5)), [expected / 2, expected], rtol=1e-6)
    for name, found in gradient(regularize.l2(0.5)).items():
        np.testing.assert_allclose(found, ALPHAS[name] / 2, rtol=1e-6)


@pytest.mark.parametrize("anchor", [1.0, 2.5])
def test_kl_anchor_against_monte_carlo(anchor):
    rng = np.random.default_rng(0)

    def log_density(x, c):
        from math import lgamma

        constant = lgamma(c.sum()) - sum(map(lgamma, c))
        return constant + ((c - 1) * np.log(x)).sum(-1)

    expected, variance = 0.0, 0.0
    for row in ROWS:
        c = np.where(row > 0, row + 1, np.exp(row))
        x = rng.dirichlet(c, 100_000)
        x = np.maximum(x, 1e-300)
        difference = log_density(x, c) - log_density(x, np.full(len(c), anchor))
        expected += difference.mean()
        variance += difference.var() / len(x)
    term, metric = value(regularize.kl_anchor(anchor=anchor))
    np.testing.assert_allclose(metric, expected, atol=4 * variance**0.5)
    assert metric > 0.5
    np.testing.assert_allclose(term, 1e-3 * metric, rtol=1e-6)


def test_kl_anchor_is_zero_with_no_slope_at_the_anchor():
    regularizer = regularize.kl_anchor(1.0, anchor=1.5)
    at = {"t": jnp.full((2, 4), 0.5)}
    found, slope = jax.value_and_grad(lambda a: regularizer(a, a, STEP)[0])(at)
    np.testing.assert_allclose(found, 0, atol=1e-5)
    np.testing.assert_allclose(slope["t"], 0, atol=1e-5)


def test_expected_cost_is_a_share_of_the_dearest():
    costs = {"a": np.array([[0.0, 1.0, 4.0], [0.0, 2.0, 6.0]])}  # 'b' costs nothing
    one_hot = {"a": jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "b": jnp.array([[1.0, 0.0]])}
    regularizer = regularize.expected_cost(costs, 0.2, "parameters")
    np.testing.assert_allclose(value(regularizer, mix=one_hot), [0.2 * 0.7, 0.7], rtol=1e-6)
    assert set(regularizer(ALPHAS, MIX, STEP)[1]) == {"parameters"}
    slope = jax.grad(lambda mix: regularizer(ALPHAS, mix, STEP)[0])(MIX)
    np.testing.assert_allclose(slope["a"], 0.2 * costs["a"] / 10, rtol=1e-6)
    np.testing.assert_array_equal(slope["b"], 0)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="weight=-1"):
        regularize.l2(-1)
    with pytest.raises(ValueError, match="anchor=0"):
        regularize.kl_anchor(anchor=0)
    with pytest.raises(ValueError, match="largest cost is 0"):
        regularize.expected_cost({"a": np.zeros((2, 3))}, 1.0)
    regularizer = regularize.expected_cost({"a": np.ones((3, 3))}, 1.0)
    with pytest.raises(ValueError, match=r"'a' have the shape \(3, 3\), the mix has \(2, 3\)"):
        regularizer(ALPHAS, MIX, STEP)
    with pytest.raises(ValueError, match="the mix has None"):
        regularize.expected_cost({"c": np.ones((2, 3))}, 1.0)(ALPHAS, MIX, STEP)
