"""Perturbations against plain NumPy, and against what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.gradient import perturb

KEY, STEP = jax.random.key(0), jnp.int32(0)
MIX = {
    "a": jax.nn.softmax(2 * jax.random.normal(jax.random.key(1), (3, 5)), -1),
    "b": jax.nn.sigmoid(jax.random.normal(jax.random.key(2), (2, 4, 3))),  # rows of any sum
}
WEIGHTS = jax.tree.map(
    lambda t: jnp.sin(3 * jnp.arange(t.size, dtype=t.dtype).reshape(t.shape)), MIX
)


def loss(mix):
    return sum(jnp.exp(WEIGHTS[name] * mix[name]).sum() for name in mix)


def valid(values, like):
    """Clipped, and rows scaled to the sums that they had."""
    clipped = np.clip(values, 0, 1)
    assert (clipped.sum(-1) > 0).all()
    return clipped * like.sum(-1, keepdims=True) / clipped.sum(-1, keepdims=True)


@pytest.mark.parametrize("make", [perturb.random_smoothing, perturb.adversarial])
def test_no_radius_is_no_change(make):
    found = jax.jit(lambda step: make(0.0)(KEY, loss, MIX, step))(STEP)
    for name in MIX:
        np.testing.assert_allclose(found[name], MIX[name], rtol=3e-7)


def test_noise_is_uniform_in_the_ball_then_clipped_and_scaled():
    radius = 0.03
    keys = jax.random.split(KEY, 5000)
    many = jax.jit(jax.vmap(lambda k: perturb.random_smoothing(radius)(k, loss, MIX, STEP)))(keys)
    for name, table in MIX.items():
        assert (many[name] >= 0).all()
        np.testing.assert_allclose(
            many[name].sum(-1), np.broadcast_to(table.sum(-1), many[name].shape[:-1]), rtol=1e-5
        )
    # Rows whose weights are all far from 0 and 1 are only scaled: ratios show the noise.
    row = np.asarray(MIX["b"][0, 0], np.float64)
    assert radius < row.min() < row.max() < 1 - radius
    noise = np.random.default_rng(0).uniform(-radius, radius, (200_000, 3))
    expected = valid(row + noise, row)
    found = np.asarray(many["b"][:, 0, 0], np.float64)
    np.testing.assert_allclose(found.mean(0), expected.mean(0), atol=2e-3)
    np.testing.assert_allclose(found.std(0), expected.std(0), rtol=0.05)
    # Scaling takes away what the noise of a row has in common, at most a few per cent more.
    assert np.abs(found - row).max() < radius * (1 + 3 * row.max() / row.sum() + 0.1)
    correlation = np.corrcoef(found[:, 0], many["b"][:, 0, 1, 0])[0, 1]
    assert abs(correlation) < 0.06


def test_rows_that_clipping_empties_take_their_best_option():
    values = jnp.array([[-0.5, -0.1, -0.3], [0.5, 2.0, -1.0]])
    like = jnp.full((2, 3), 1 / 3)
    found = perturb._valid(values, like)
    np.testing.assert_allclose(found, [[0, 1, 0], [1 / 3, 2 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize(("steps", "step_size"), [(7, None), (3, 0.02)])
def test_ascent_against_numpy(steps, step_size):
    radius = 0.05
    found = jax.jit(
        lambda step: perturb.adversarial(radius, steps, step_size)(KEY, loss, MIX, step)
    )(STEP)
    now = perturb.random_smoothing(radius)(KEY, loss, MIX, STEP)  # the same start
    length = 2 * radius / steps if step_size is None else step_size
    for name, table in MIX.items():
        start, weights = np.asarray(table), np.asarray(WEIGHTS[name])
        p = np.asarray(now[name])
        for _ in range(steps):
            p = p + length * np.sign(weights * np.exp(weights * p))
            p = valid(start + np.clip(p - start, -radius, radius), start)
        np.testing.assert_allclose(found[name], p, rtol=1e-5, atol=1e-6)
    assert loss(found) > loss(now)
    assert loss(found) > loss(MIX)


def test_an_ascent_that_ends_lower_is_given_up():
    def peaked(mix):  # the given mix is the maximum
        return -sum(jnp.abs(mix[name] - MIX[name]).sum() for name in mix)

    found = perturb.adversarial(0.1)(KEY, peaked, MIX, STEP)
    for name in MIX:
        np.testing.assert_array_equal(found[name], MIX[name])


def test_schedules_are_traced_and_results_are_constants():
    method = perturb.adversarial(optax.linear_schedule(0.0, 0.1, 10), steps=2)
    traces = []

    @jax.jit
    def distance(mix, step):
        traces.append(step)

        def change(mix):
            return sum(jnp.abs(t).sum() for t in method(KEY, loss, mix, step).values())

        found = method(KEY, loss, mix, step)
        moved = sum(jnp.abs(found[n] - mix[n]).sum() for n in mix)
        return moved, jax.grad(change)(mix)

    (none, gradient), (some, _) = distance(MIX, jnp.int32(0)), distance(MIX, jnp.int32(10))
    assert none == 0 < 0.1 < some
    assert len(traces) == 1
    assert all((g == 0).all() for g in gradient.values())


def test_replicas_with_a_mean_agree_on_one_mix():
    data = jnp.array([1.0, -3.0])
    method = perturb.adversarial(0.05, steps=3)

    def replica(x):
        own = lambda mix: x * loss(mix)  # noqa: E731
        return method(KEY, own, MIX, STEP, lambda tree: jax.lax.pmean(tree, "replicas"))

    found = jax.vmap(replica, axis_name="replicas")(data)
    whole = method(KEY, lambda mix: data.mean() * loss(mix), MIX, STEP)
    for name in MIX:
        np.testing.assert_array_equal(found[name][0], found[name][1])
        np.testing.assert_allclose(found[name][0], whole[name], rtol=1e-5, atol=1e-6)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="radius=-1"):
        perturb.random_smoothing(-1)
    with pytest.raises(ValueError, match="steps=0"):
        perturb.adversarial(0.1, steps=0)
    with pytest.raises(ValueError, match="step_size=0"):
        perturb.adversarial(0.1, step_size=0)
