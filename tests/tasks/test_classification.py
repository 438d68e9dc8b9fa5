"""Classification: its loss and metrics against NumPy, its contract, and what it refuses."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas import data, tasks
from dnas.tasks import Augment, Classification
from dnas.testing import check_task

TASK = Classification((5, 4, 2), 3, (0.2, 0.4), (0.5, 0.3), class_names=("a", "b", "c"))


def batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 5, 4, 2)).astype(np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.asarray(np.arange(size) % 3, jnp.int32)}


def logits(size=6, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(size, 3)), jnp.float32)


def test_contract():
    check_task(TASK, batch())
    check_task(dataclasses.replace(TASK, augment=Augment(crop_padding=1, flip=True)), batch())


def test_loss_accuracy_and_score_against_numpy():
    labels, out = np.arange(6) % 3, np.asarray(logits(), np.float64)
    entropy = np.log(np.exp(out).sum(-1)) - out[np.arange(6), labels]
    loss, sums = TASK.loss(logits(), batch()["label"])
    np.testing.assert_allclose(loss, entropy.mean(), rtol=1e-5)
    hits = (out.argmax(-1) == labels).sum()
    assert TASK.metrics(sums) == pytest.approx({"loss": entropy.mean(), "accuracy": hits / 6})
    p = hits / 6
    assert TASK.score(sums) == pytest.approx((p, math.sqrt(p * (1 - p) / 6)))
    evaluation = TASK.evaluation(TASK.tally(logits(), batch()["label"], jnp.ones(6)))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (labels, out.argmax(-1)), 1)
    np.testing.assert_array_equal(evaluation.confusion, expected)
    assert evaluation.metrics == pytest.approx({"accuracy": p, "loss": entropy.mean()}, rel=1e-5)


def test_images_are_normalised_and_augmented_in_training_alone():
    images = np.asarray(batch()["image"], np.float64)
    expected = (images / 255 - [0.2, 0.4]) / [0.5, 0.3]
    inputs, labels = TASK.prepare(None, batch(), False)
    np.testing.assert_allclose(inputs, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, np.arange(6) % 3)
    flipping = dataclasses.replace(TASK, augment=Augment(flip=True))
    flipped, _ = flipping.prepare(jax.random.key(0), batch(), True)
    mirrored = (np.asarray(flipped) != np.asarray(inputs)).any((1, 2, 3))
    assert 0 < mirrored.sum() < 6
    np.testing.assert_allclose(
        np.asarray(flipped)[mirrored], expected[mirrored][:, :, ::-1], atol=1e-5
    )


def test_a_head_begins_with_values_and_takes_no_key():
    rngs, others = nnx.Rngs(3), nnx.Rngs(3)
    kernel = TASK.head((50,), rngs=rngs).kernel[...]
    assert 0.1 < float(jnp.abs(kernel).max()) <= 50**-0.5
    assert float(jnp.abs(kernel - TASK.head((50,), rngs=nnx.Rngs(4)).kernel[...]).max()) > 0.01
    assert (rngs.params() == others.params()).all()


def test_chance_is_the_loss_of_equal_logits():
    loss, _ = TASK.loss(jnp.zeros((6, 3)), batch()["label"])
    assert TASK.chance == pytest.approx(float(loss))


def test_a_described_task_is_rebuilt():
    facts = TASK.describe()
    assert tasks.rebuild(facts) == TASK
    for wrong, message in (
        ({**facts, "task": "clustering"}, "task='clustering': expected one of classification"),
        ({**facts, "colour": 1}, "colour"),
    ):
        with pytest.raises(ValueError, match=message):
            tasks.rebuild(wrong)


def test_a_data_set_makes_its_task():
    digits = data.digits()
    task = digits.task(Augment(flip=True))
    assert (task.mean, task.std) == (digits.mean, digits.std) and task.augment.flip
    assert task.class_names == digits.class_names
    unmeasured = digits.task(measured=False)
    assert unmeasured.statistics == ((0.0,), (1.0,)) and unmeasured.inputs == task.inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (4, 4, 2)}, "images of 'other' are 4x4x2, .* images of 5x4x2"),
        ({"classes": 4, "class_names": None}, "'other' has 4 classes, .* tell 3 apart"),
        ({"class_names": ("a", "x", "c")}, "class 1 of 'other' is 'x', .* call it 'b'"),
    ],
)
def test_other_data_must_fit(change, message):
    TASK.check_fit(dataclasses.replace(TASK, mean=None, class_names=None), "other")
    with pytest.raises(ValueError, match=message):
        TASK.check_fit(dataclasses.replace(TASK, **change), "other")


class Careless(Classification):
    """Counts examples that only fill up a batch."""

    def loss(self, outputs, targets, weights=None):
        return super().loss(jnp.nan_to_num(outputs), targets)


def test_a_broken_task_is_told():
    with pytest.raises(AssertionError, match="examples of weight zero count"):
        check_task(Careless((5, 4, 2), 3), batch())
    with pytest.raises(AssertionError, match="examples promises"):
        check_task(TASK, {**batch(), "weight": jnp.ones(6)})
