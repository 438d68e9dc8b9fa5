"""Regression: loss, metrics and standard error against NumPy; a linear target is fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.tasks import Classification, Regression, rebuild
from dnas.testing.tasks import check_task

TASK = Regression(("a", "b"), "price", (1.0, -2.0), (2.0, 4.0), 500.0, 25.0)


def batch(size, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(size, 2)).astype(np.float32)
    return {"row": rows, "target": (500 + 25 * rng.normal(size=size)).astype(np.float32)}


def test_contract():
    check_task(TASK, batch(6))
    check_task(Regression(("a",)), {"row": batch(4)["row"][:, :1], "target": batch(4)["target"]})


def test_rows_and_targets_are_normalised():
    given = batch(5)
    for train in (False, True):
        rows, targets = TASK.prepare(jax.random.key(0), given, train)
        np.testing.assert_allclose(rows, (given["row"] - [1, -2]) / [2, 4], rtol=1e-6)
        np.testing.assert_allclose(targets, (given["target"] - 500) / 25, rtol=1e-5)


def test_metrics_are_those_of_numpy():
    rng = np.random.default_rng(1)
    targets = rng.normal(0.3, 1.2, 40).astype(np.float32)
    outputs = (targets + rng.normal(0.1, 0.5, 40)).astype(np.float32)
    loss, sums = TASK.loss(outputs, targets)
    squares = (outputs - targets).astype(np.float64) ** 2
    assert float(loss) == pytest.approx(squares.mean(), rel=1e-5)
    found = TASK.metrics(sums)
    assert list(found) == ["loss", "rmse", "r2"]
    assert found["rmse"] == pytest.approx(25 * np.sqrt(squares.mean()), rel=1e-5)
    expected = 1 - squares.sum() / ((targets - targets.mean()) ** 2).sum()
    assert found["r2"] == pytest.approx(expected, rel=1e-4)
    assert TASK.score(sums).value == found["r2"]
    evaluation = TASK.evaluation(sums)
    assert (
        f"root mean squared error {found['rmse']:.5g} of 'price', 40" in evaluation.format_table()
    )
    assert evaluation.as_dict()["standard_error"] == TASK.score(sums).error


def test_standard_error_is_that_of_the_bootstrap():
    rng = np.random.default_rng(2)
    targets = rng.gamma(2, 1, 2000) + 5  # skew, and far from zero
    outputs = targets + rng.normal(0, 0.3, 2000) * targets  # errors that grow with the target
    sums = TASK.tally(jnp.float32(outputs), jnp.float32(targets))
    rows = rng.integers(2000, size=(4000, 2000))
    errors, drawn = (outputs - targets)[rows], targets[rows]
    ratios = (errors**2).mean(1) / drawn.var(1)
    assert TASK.score(sums).error == pytest.approx(ratios.std(), rel=0.05)


def test_predicting_the_mean_is_worth_nothing_and_the_truth_one():
    targets = jnp.arange(8.0)
    score = TASK.score(TASK.tally(jnp.full(8, targets.mean()), targets))
    assert score.value == pytest.approx(0, abs=1e-6)
    assert TASK.score(TASK.tally(targets, targets)) == (1, 0)
    constant = TASK.score(TASK.tally(targets, jnp.ones(8)))
    assert np.isnan(constant.value) and np.isnan(constant.error)


def test_what_fills_up_a_batch_counts_nothing():
    targets, outputs = jnp.arange(4.0), jnp.array([0.0, 1.5, jnp.inf, jnp.nan])
    weights = jnp.array([1.0, 1, 0, 0])
    loss, sums = TASK.loss(outputs, targets, weights)
    assert float(loss) == 0.125 and float(sums["count"]) == 2
    gradient = jax.grad(lambda x: TASK.loss(x, targets, weights)[0])(jnp.array([0, 1.5, 9, 9]))
    assert gradient.tolist() == [0, 0.5, 0, 0]


def test_a_linear_head_finds_the_least_squares():
    """The optimum of a linear network is that of numpy.linalg.lstsq."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 2)).astype(np.float32)
    targets = (rows @ [3.0, -1.0] + 0.5 + rng.normal(0, 0.2, 200)).astype(np.float32)
    task = Regression(("a", "b"))
    inputs, wanted = task.prepare(None, {"row": rows, "target": targets}, False)

    def loss(parameters):
        return task.loss(inputs @ parameters[:2] + parameters[2], wanted)[0]

    best = np.linalg.lstsq(np.c_[rows, np.ones(200)], targets, rcond=None)[0]
    gradient = jax.jit(jax.grad(loss))
    np.testing.assert_allclose(gradient(jnp.float32(best)), 0, atol=1e-5)
    found = jnp.zeros(3)
    for _ in range(60):
        found -= 0.4 * gradient(found)
    np.testing.assert_allclose(found, best, atol=1e-4)


def test_a_file_holds_the_task():
    assert rebuild(TASK.describe()) == TASK


def test_data_of_another_table_does_not_fit():
    TASK.check_fit(Regression(("a", "b"), "price"), "same")
    for other, message in [
        (Regression(("a", "c"), "price"), r"columns of 'x' are not those .*\['b', 'c'\]"),
        (Regression(("b", "a"), "price"), "another order"),
        (Regression(("a", "b"), "cost"), "target of 'x' is 'cost'.*'price'"),
        (Classification((2, 2, 1), 2), "'x' is for classification.*trained for regression"),
    ]:
        with pytest.raises(ValueError, match=message):
            TASK.check_fit(other, "x")
    with pytest.raises(ValueError, match="mean has 1 numbers; expected one for each of 2"):
        Regression(("a", "b"), mean=(0.0,))
    with pytest.raises(ValueError, match="target_std=0"):
        Regression(("a",), target_std=0.0)
