"""The training step and the evaluation, with toy networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import data as datasets
from dnas.tasks import Classification
from dnas.training.recipe import Recipe
from dnas.training.supervised import supervised
from dnas.training.tally import make_evaluate

TOTAL = 10
PLAIN = {"epochs": 1, "batch_size": 6, "learning_rate": 0.1, "momentum": 0.0}


TASK = Classification((4, 3, 1), 4, (0.3,), (0.3,))


class Noise(Classification):
    """Noise in place of images."""

    def prepare(self, key, batch, train):
        return jax.random.normal(key, batch["image"].shape), batch["label"]


@pytest.fixture
def make(toy, stripes):
    """Makes a training of the toy network; returns it and its first state."""

    def make(task=None, axis_name=None, **settings):
        task = task or Classification(stripes.image_shape, stripes.classes, (0.3,), (0.3,))
        training = supervised(
            toy,
            toy.genotype("tanh"),
            task,
            Recipe(**{**PLAIN, **settings}),
            total_steps=TOTAL,
            axis_name=axis_name,
        )
        state = jax.jit(training.init)(jax.random.key(3))
        return training if axis_name else training._replace(step=jax.jit(training.step)), state

    return make


@pytest.fixture
def batch(stripes):
    return {"image": stripes.train.images[:6], "label": stripes.train.labels[:6]}


@pytest.fixture
def task(stripes):
    return Classification(stripes.image_shape, stripes.classes, (0.3,), (0.3,))


def leaves_equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_step_descends_the_loss_of_the_batch(make, batch):
    training, state = make()

    def loss(params):
        network = training.network(state._replace(params=params))
        images = datasets.normalise(batch["image"], (0.3,), (0.3,))
        return TASK.loss(network(images, train=True).logits, batch["label"])[0]

    new, metrics = training.step(state, batch)
    value, grads = jax.value_and_grad(loss)(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.params, expected)
    np.testing.assert_allclose(metrics["train"]["loss"] / 6, value, rtol=1e-5)
    assert int(new.step) == 1


def test_auxiliary_head_learns_with_its_weight(make, batch):
    """Its gradient is the auxiliary weight times one that does not depend on it."""
    moves = []
    for weight in (0.4, 0.8):
        training, state = make(auxiliary_weight=weight)
        new, _ = training.step(state, batch)
        moves.append(new.params["head"]["kernel"] - state.params["head"]["kernel"])
    assert np.abs(moves[0]).max() > 1e-3
    np.testing.assert_allclose(2 * moves[0], moves[1], rtol=1e-3, atol=1e-6)
    training, state = make()
    assert "head" not in state.params


def test_drop_path_follows_the_step(make, batch):
    training, state = make(drop_path=0.2)
    seen = []
    for _ in range(3):
        state, _ = training.step(state, batch)
        seen.append(float(state.batch_stats["seen"]))
    np.testing.assert_allclose(seen, [0, 0.02, 0.04], atol=1e-7)


def test_running_averages_are_updated_and_used(make, batch, stripes, task):
    training, state = make()
    images = datasets.normalise(batch["image"], (0.3,), (0.3,)).reshape(6, -1)
    hidden = state.params["hidden"]
    before = images @ hidden["kernel"] + hidden["bias"]
    new, _ = training.step(state, batch)
    stats = new.batch_stats["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * before.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * before.var(0, ddof=1), rtol=1e-4)
    # Tested with other averages, the same weights answer differently.
    evaluate = make_evaluate(training.apply, task)
    other = jax.tree.map(lambda x: x + 1, new.batch_stats)
    assert (
        evaluate(new, datasets.evaluation_batches(stripes.test, 4)).loss
        != evaluate(
            new._replace(batch_stats=other), datasets.evaluation_batches(stripes.test, 4)
        ).loss
    )


@pytest.mark.parametrize("batch_size", [4, 11, 16])
def test_evaluation_counts_every_image_once(make, batch, stripes, task, batch_size):
    training, state = make()
    state, _ = training.step(state, batch)
    images = datasets.normalise(stripes.test.images, (0.3,), (0.3,))
    logits = training.network(state)(images).logits
    hits = int((logits.argmax(-1) == stripes.test.labels).sum())
    assert 0 < hits < 11
    evaluate = make_evaluate(training.apply, task)
    evaluation = evaluate(state, datasets.evaluation_batches(stripes.test, batch_size))
    assert evaluation.accuracy == hits / 11
    np.testing.assert_allclose(
        evaluation.loss, TASK.loss(logits, stripes.test.labels)[0], rtol=1e-5
    )


def test_bfloat16_computes_so_but_keeps_float32(make, batch):
    results = {}
    for dtype in ("float32", "bfloat16"):
        training, state = make(dtype=dtype, momentum=0.9, auxiliary_weight=0.4)
        results[dtype] = training.step(state, batch)
        for leaf in jax.tree.leaves((results[dtype][0]._replace(key=None), results[dtype][1])):
            assert leaf.dtype in (jnp.float32, jnp.int32)
    (full, metrics), (half, rough) = results["float32"], results["bfloat16"]
    assert rough["train"]["loss"] != metrics["train"]["loss"]
    np.testing.assert_allclose(rough["train"]["loss"], metrics["train"]["loss"], rtol=0.02)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), full.params, half.params)


def on_replicas(training, state, batch, replicas=2):
    """Runs a step on replicas that share the state and divide the batch."""
    parts = jax.tree.map(lambda x: x.reshape(replicas, -1, *x.shape[1:]), batch)
    step = jax.vmap(training.step, (None, 0), axis_name="replicas")
    return jax.jit(step)(state, parts), parts


def test_replicas_average_gradients_and_running_averages(make, batch):
    training, state = make(axis_name="replicas", learning_rate=0.5)
    (new, metrics), parts = on_replicas(training, state, batch)
    first, second = (jax.tree.map(lambda x, i=i: x[i], new._replace(key=None)) for i in (0, 1))
    assert leaves_equal(first, second)
    alone, _ = make(learning_rate=0.5)
    single = [alone.step(state, jax.tree.map(lambda x, i=i: x[i], parts)) for i in (0, 1)]
    for name in ("params", "batch_stats"):
        mean = jax.tree.map(lambda a, b: (a + b) / 2, *(getattr(s, name) for s, _ in single))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), getattr(first, name), mean
        )
    losses = [m["train"]["loss"] for _, m in single]
    np.testing.assert_allclose(metrics["train"]["loss"], 2 * [sum(losses)], rtol=1e-5)


def test_replicas_augment_differently(make, batch):
    """On equal images, equal noise would make the average that of one replica."""

    training, state = make(Noise((4, 3, 1), 4), axis_name="replicas")
    twice = jax.tree.map(lambda x: np.concatenate([x[:3], x[:3]]), batch)
    (new, _), _ = on_replicas(training, state, twice)
    (one, _), _ = on_replicas(training, state, jax.tree.map(lambda x: x[:3], batch), replicas=1)
    assert not leaves_equal(new.params["hidden"], one.params["hidden"])


def test_noise_changes_from_step_to_step(make, batch):
    training, state = make(Noise((4, 3, 1), 4))
    first, _ = training.step(state, batch)
    again, _ = training.step(state, batch)
    later, _ = training.step(state._replace(step=state.step + 1), batch)
    assert leaves_equal(first.params, again.params)
    assert not leaves_equal(first.batch_stats["norm"], later.batch_stats["norm"])
