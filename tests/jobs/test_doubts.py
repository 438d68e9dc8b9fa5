"""What speaks against a result."""

import math

import numpy as np
import pytest

from dnas import discretize
from dnas.gradient.freeze import Frozen
from dnas.jobs import doubts
from dnas.space import Decision, Weighing
from dnas.tasks import Classification

ROWS, OPTIONS = ("0->1", "0->2", "1->2"), ("a", "b", "c", "d", "e")
NOISE = 1e-3 * np.random.default_rng(0).normal(size=(3, 5))
DIRECTION = np.random.default_rng(1).normal(size=(3, 5))


def softmax(alphas):
    weights = np.exp(alphas)
    return weights / weights.sum(-1, keepdims=True)


def warning(initial, alphas, decisions=None):
    decisions = decisions or {name: Decision(name, ROWS, OPTIONS) for name in alphas}
    report = discretize.report({name: softmax(x) for name, x in alphas.items()}, decisions)
    return doubts.undecided(report, initial, alphas)


def test_decided_alphas_are_no_matter_of_doubt():
    assert warning({"cell": NOISE}, {"cell": NOISE + DIRECTION}) is None
    assert warning({"cell": 0 * NOISE}, {"cell": DIRECTION}) is None  # no noise to compare with


def test_even_weights_and_little_movement_are_two_signs():
    text = warning({"cell": NOISE}, {"cell": NOISE + 0.02 * DIRECTION})
    assert "the weights of 'cell' are even (relative entropy 1.000, margin 0.00" in text
    assert "moved" not in text and "more epochs, or with a larger alpha_learning_rate" in text
    # Alphas that all sink by the same amount have moved, and decided nothing.
    assert "are even" in warning({"cell": NOISE}, {"cell": NOISE - 5.0})
    # Initial alphas as large as these decide by themselves.
    text = warning({"cell": 1e3 * NOISE}, {"cell": 1e3 * NOISE + 0.1})
    assert "alphas of 'cell' moved by 0.1, no more than their initial noise of" in text
    assert "even" not in text
    assert "moved by 0, no more than" in warning({"cell": 0 * NOISE}, {"cell": 0 * NOISE})


def test_kinds_of_cells_are_looked_at_by_themselves():
    initial = dict.fromkeys(("normal", "reduce"), NOISE)
    text = warning(initial, {"normal": NOISE, "reduce": NOISE + DIRECTION})
    assert "'normal'" in text and "'reduce'" not in text
    # Tables of single edges count together, those that weigh edges not at all.
    decisions = {f"cell.{row}": Decision("cell", (row,), OPTIONS) for row in ROWS}
    alphas = {name: NOISE[i : i + 1] for i, name in enumerate(decisions)}
    moved = alphas | {"cell.0->1": NOISE[:1] + 3 * DIRECTION[:1]}
    edges = {"cell.2": Weighing("cell", ("2",), ("0->2", "1->2"))}
    weighed = {"cell.2": np.zeros((1, 2))}
    assert warning(alphas | weighed, moved | weighed, decisions | edges) is None
    assert warning(alphas | weighed, alphas | weighed, decisions | edges).count("'cell'") == 2


def test_the_threshold_of_even_weights_is_that_of_logits_of_a_known_deviation():
    alphas = 0.14 * np.random.default_rng(2).normal(size=(2000, 5))
    table = {"t": Decision("t", tuple(map(str, range(2000))), OPTIONS)}
    found = discretize.report({"t": softmax(alphas)}, table)["t"]
    assert found["relative_entropy"] == pytest.approx(doubts.EVEN_ENTROPY, abs=3e-4)
    about = 1 - (1 - 1 / 5) * 0.14**2 / (2 * math.log(5))
    assert found["relative_entropy"] == pytest.approx(about, abs=3e-4)
    assert found["margin"] == pytest.approx(0.02, abs=1.5e-3)


def test_a_loss_above_that_of_equal_logits_is_worse_than_chance():
    history = [{"train_loss": 1.0}, {"train_loss": math.log(10) + 0.01}]
    chance = Classification((8, 8, 1), 10).chance
    assert "is 2.313, worse than chance (2.303)" in doubts.worse_than_chance(history, chance)
    assert doubts.worse_than_chance(history, math.log(11)) is None
    assert doubts.worse_than_chance(history[:1], chance) is None


@pytest.mark.parametrize(("at_once", "text"), [(0.89, None), (0.92, "froze 92%"), (1.0, "100%")])
def test_a_decision_that_froze_nearly_everything(at_once, text):
    found = doubts.frozen_at_once(Frozen(np.float32(1.0), np.float32(at_once)))
    assert found is None if text is None else text in found
