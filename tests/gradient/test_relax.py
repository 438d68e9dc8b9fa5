"""Relaxations against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import relax

ALPHAS = {"a": jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]]), "b": jnp.array([[0.5, 0.0]])}
ROWS = [(name, row) for name, table in ALPHAS.items() for row in range(len(table))]


def samples(relaxation, count, step=0):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda key: relaxation.sample(key, ALPHAS, jnp.int32(step))))(keys)


def test_impossible_temperatures_and_nan_are_not_hidden():
    with pytest.raises(ValueError, match=r"temperature=0\.0"):
        relax.gumbel_softmax(0.0)
    broken = {"a": jnp.full((1, 2), jnp.nan)}
    mix = relax.gumbel_softmax().sample(jax.random.key(0), broken, jnp.int32(0))
    assert jnp.isnan(mix["a"]).any()


def test_softmax_is_the_softmax_and_expected_of_both():
    for relaxation in (relax.softmax(), relax.gumbel_softmax()):
        for name, table in relaxation.expected(ALPHAS, 0).items():
            e = np.exp(np.asarray(ALPHAS[name]))
            np.testing.assert_allclose(table, e / e.sum(-1, keepdims=True), rtol=1e-6)
    sampled = samples(relax.softmax(), 1)["a"][0]
    np.testing.assert_allclose(sampled, relax.softmax_tables(ALPHAS)["a"], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 5.0])
def test_hard_samples_are_one_hot_and_as_frequent_as_the_softmax_says(temperature):
    # The Gumbel-max trick: frequencies do not depend on the temperature.
    count = 20_000
    drawn = samples(relax.gumbel_softmax(temperature), count)
    for name, table in relax.softmax_tables(ALPHAS).items():
        assert set(np.unique(drawn[name])) == {0.0, 1.0}
        np.testing.assert_array_equal(drawn[name].sum(-1), 1)
        np.testing.assert_allclose(drawn[name].mean(0), table, atol=4 * 0.5 / count**0.5)


def test_tables_and_rows_are_independent():
    drawn = samples(relax.gumbel_softmax(), 20_000)
    first = drawn["a"][:, 0, 0] - drawn["a"][:, 0, 0].mean()
    for name, row in ROWS[1:]:
        other = drawn[name][:, row, 0] - drawn[name][:, row, 0].mean()
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.03


def test_straight_through_has_the_gradient_of_the_soft_sample():
    weights = {name: jnp.arange(1.0, t.size + 1).reshape(t.shape) for name, t in ALPHAS.items()}

    def loss(relaxation):
        def value(alphas):
            mix = relaxation.sample(jax.random.key(1), alphas, jnp.int32(0))
            return sum((weights[name] * mix[name]).sum() for name in mix)

        return value

    hard, soft = relax.gumbel_softmax(0.7), relax.gumbel_softmax(0.7, hard=False)
    assert float(loss(hard)(ALPHAS)) == round(float(loss(hard)(ALPHAS)))
    for name, gradient in jax.grad(loss(hard))(ALPHAS).items():
        np.testing.assert_allclose(gradient, jax.grad(loss(soft))(ALPHAS)[name], rtol=1e-6)
        assert np.abs(gradient).max() > 0.05


def test_soft_samples_follow_the_schedule_without_recompiling():
    schedule = optax.linear_schedule(10.0, 0.1, 100)
    relaxation = relax.gumbel_softmax(schedule, hard=False)
    traces = []

    @jax.jit
    def sample(step):
        traces.append(step)
        return relaxation.sample(jax.random.key(0), ALPHAS, step)

    early, late = sample(jnp.int32(0)), sample(jnp.int32(100))
    assert len(traces) == 1
    assert early["a"].max() < 0.6 < 0.7 < late["a"].max(-1).min()
    # The same noise at both temperatures: logits are in the ratio of the temperatures.
    ratio = np.log(late["a"][0, 0] / late["a"][0, 1]) / np.log(early["a"][0, 0] / early["a"][0, 1])
    np.testing.assert_allclose(ratio, 100, rtol=1e-2)


EVERY = {
    "softmax": relax.softmax,
    "sigmoid": relax.sigmoid,
    "sparsemax": relax.sparsemax,
    "entmax15": relax.entmax15,
    "gumbel_softmax": relax.gumbel_softmax,
    "soft_gumbel": lambda: relax.gumbel_softmax(0.7, hard=False),
    "reinmax": relax.reinmax,
    "dirichlet": relax.dirichlet,
    "uniform_sample": relax.uniform_sample,
}


@pytest.mark.parametrize("name", EVERY)
def test_leading_axes_are_rows_and_samples_differentiate_reverse_over_forward(name):
    relaxation = EVERY[name]()
    alphas = {"t": jax.random.normal(jax.random.key(3), (2, 3, 4))}
    flat = {"t": alphas["t"].reshape(6, 4)}
    expected = relaxation.expected(alphas, 0)["t"]
    np.testing.assert_array_equal(expected.reshape(6, 4), relaxation.expected(flat, 0)["t"])
    if name != "sigmoid":
        np.testing.assert_allclose(expected.sum(-1), 1, rtol=1e-6)

    def sample(alphas):
        return relaxation.sample(jax.random.key(1), alphas, jnp.int32(0))["t"]

    weights, direction = jax.random.normal(jax.random.key(2), (2, 2, 3, 4))

    def derivative(alphas):  # of a loss in the weights; supernets differentiate it in alphas
        return jax.jvp(lambda w: (w * sample(alphas)).sum(), (weights,), (direction,))[1]

    @jax.jit
    def both(alphas):
        mix, pull = jax.vjp(sample, alphas)
        return mix, pull(direction)[0]["t"], jax.grad(derivative)(alphas)["t"]

    mix, plain, mixed = both(alphas)
    assert mix.shape == mixed.shape == (2, 3, 4)
    assert mix.dtype == jnp.float32
    assert (np.asarray(mix) >= 0).all()
    assert (np.asarray(mix) <= 1 + 1e-6).all()
    np.testing.assert_allclose(mixed, plain, rtol=1e-5, atol=1e-7)
    assert (np.abs(plain).max((1, 2)) > 0).all() == (name != "uniform_sample")


@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "reinmax", "dirichlet"])
def test_nan_is_not_hidden(name):
    relaxation = EVERY[name]()

    @jax.jit
    def both(alphas):
        return jax.value_and_grad(
            lambda a: relaxation.sample(jax.random.key(0), a, jnp.int32(0))["t"][0, 0]
        )(alphas)

    value, gradient = both({"t": jnp.full((1, 3), jnp.nan)})
    assert jnp.isnan(value)
    assert jnp.isnan(gradient["t"]).any()


def test_sigmoid_is_the_sigmoid():
    np.testing.assert_allclose(
        relax.sigmoid().expected(ALPHAS, 0)["a"],
        1 / (1 + np.exp(-np.asarray(ALPHAS["a"]))),
        rtol=1e-6,
    )


def test_uniform_samples_are_uniform_whatever_alphas_are():
    drawn = samples(relax.uniform_sample(), 20_000)
    for table in drawn.values():
        np.testing.assert_array_equal(table.sum(-1), 1)
        np.testing.assert_allclose(table.mean(0), 1 / table.shape[-1], atol=0.015)
    np.testing.assert_allclose(
        relax.uniform_sample().expected(ALPHAS, 0)["a"], jax.nn.softmax(ALPHAS["a"]), rtol=1e-6
    )


def test_dirichlet_gradients_are_those_of_its_moments():
    weights = jnp.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]])

    def sampled(table):
        """Monte-Carlo estimates of E[w'm] and E[w'm^2], which reparameterised gradients follow."""
        many = {"t": jnp.broadcast_to(table, (10_000, *table.shape))}
        mix = relax.dirichlet().sample(jax.random.key(0), many, jnp.int32(0))["t"]
        return jnp.array([(weights * mix**p).sum((1, 2)).mean() for p in (1, 2)])

    def exact(table):
        c = jax.nn.elu(table) + 1
        total = c.sum(-1, keepdims=True)
        second = c * (c + 1) / (total * (total + 1))
        return jnp.array([(weights * c / total).sum(), (weights * second).sum()])

    @jax.jit
    def both(table):
        value, pull = jax.vjp(sampled, table)
        true_value, true_pull = jax.vjp(exact, table)
        return (value, jax.vmap(pull)(jnp.eye(2))), (true_value, jax.vmap(true_pull)(jnp.eye(2)))

    found, expected = both(ALPHAS["a"])
    np.testing.assert_allclose(found[0], expected[0], atol=0.03)
    np.testing.assert_allclose(found[1][0], expected[1][0], atol=0.03)
    assert np.abs(expected[1][0]).max((1, 2)).min() > 0.2
    mean = relax.dirichlet().expected({"t": jnp.array([[0.0, 1.0, -200.0]])}, 0)["t"]
    np.testing.assert_allclose(mean, [[1 / 3, 2 / 3, 0]], atol=1e-6)


def test_reinmax_is_algorithm_2_at_any_temperature():
    theta, slope = np.array([0.7, -0.4, 0.2, -1.0]), np.array([0.3, -1.0, 0.5, 2.0])
    relaxation = relax.reinmax(1.7)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    def pulled(p):  # the transposed Jacobian of a softmax with value p, times the slope
        return p * (slope - p @ slope)

    def weighed(theta, key):
        mix = relaxation.sample(key, {"t": theta[None]}, jnp.int32(0))["t"][0]
        return mix @ jnp.asarray(slope, jnp.float32), mix

    gradient = jax.jit(jax.grad(weighed, has_aux=True))
    seen = set()
    for seed in range(40):
        found, drawn = gradient(jnp.asarray(theta, jnp.float32), jax.random.key(seed))
        seen.add(int(drawn.argmax()))
        middle = (np.asarray(drawn, np.float64) + softmax(theta / 1.7)) / 2
        expected = 2 * pulled(middle) - pulled(softmax(theta)) / 2
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert seen == {0, 1, 2, 3}


def test_concentrations_stay_positive_and_follow_elu():
    table = jnp.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    np.testing.assert_allclose(relax.concentration(table), jax.nn.elu(table) + 1, rtol=1e-6)
    np.testing.assert_allclose(relax.concentration(jnp.float32(-30)), np.exp(-30.0), rtol=1e-5)
    slopes = jax.vmap(jax.grad(relax.concentration))(table)
    np.testing.assert_allclose(slopes, np.minimum(np.exp(table), 1), rtol=1e-6)


def test_dirichlet_samples_and_gradients_stay_finite_however_low_alphas_are():
    alphas = {"a": jnp.array([[0.0, -60.0, -120.0], [-200.0, -200.0, -200.0]])}
    relaxation = relax.dirichlet()
    np.testing.assert_allclose(relaxation.expected(alphas, 0)["a"][1], 1 / 3, rtol=1e-6)
    for seed in range(20):
        draw = functools.partial(relaxation.sample, jax.random.key(seed), step=jnp.int32(0))
        mix = draw(alphas)["a"]
        np.testing.assert_allclose(mix.sum(-1), 1.0, rtol=1e-6)
        slopes = jax.grad(lambda alphas, draw=draw: (draw(alphas)["a"] ** 2).sum())(alphas)["a"]
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_reinmax_is_unbiased_for_quadratic_losses_at_temperature_one(temperature):
    rng = np.random.default_rng(0)
    theta = jnp.array(rng.normal(size=4), jnp.float32)
    a, b = rng.normal(size=(4, 4)), rng.normal(size=4)

    def loss(m):
        return m @ a @ m + b @ m

    def gradient(relaxation, key):
        def value(row):
            mix = relaxation.sample(key, {"t": row[None]}, jnp.int32(0))["t"][0]
            return loss(mix), mix

        return jax.grad(value, has_aux=True)(theta)

    def expectation(relaxation):
        """Over the four outcomes, each with the gradient that it comes with, and its chance."""
        keys = jax.random.split(jax.random.key(0), 200)
        gradients, mixes = jax.jit(jax.vmap(lambda key: gradient(relaxation, key)))(keys)
        first = [int(np.flatnonzero(mixes[:, k])[0]) for k in range(4)]
        return jax.nn.softmax(theta) @ gradients[jnp.array(first)]

    exact = jax.grad(lambda t: jax.nn.softmax(t) @ jax.vmap(loss)(jnp.eye(4)))(theta)
    found = expectation(relax.reinmax(temperature))
    if temperature == 1:
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
        return
    assert np.abs(found - exact).max() > 0.01
    drawn = samples(relax.reinmax(temperature), 20_000)["a"]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(0), jax.nn.softmax(ALPHAS["a"]), atol=0.015)
