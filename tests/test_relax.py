"""Relaxations against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas import relax

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
        for name, table in relaxation.expected(ALPHAS).items():
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
