"""Searches and trainings of networks that carry a state from batch to batch, as jobs."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dnas
from dnas import presets, sequences
from dnas.data.text import Text, Tokens
from dnas.runtime import loop
from dnas.training.recipe import Recipe
from dnas.training.supervised import supervised

SPACE = dnas.spaces.Recurrent(channels=4, nodes=2)
PRESET = presets.darts(epochs=2, batch_size=3, learning_rate=1.0, momentum=0.0, clip_norm=0.25)
RECIPE = Recipe(epochs=2, batch_size=3, learning_rate=1.0, momentum=0.0, clip_norm=0.25)


def text(seed=0, count=200):
    """A text of three symbols, of which each depends on the two before."""
    rng = np.random.default_rng(seed)
    tokens = [0, 1]
    for _ in range(count - 2):
        tokens.append((tokens[-1] + tokens[-2] + int(rng.random() < 0.2)) % 3)
    pieces = np.array(tokens, np.int32)
    train, test, valid = (Tokens(p, 5) for p in (pieces[:100], pieces[100:150], pieces[150:]))
    return Text("toy", train, test, ("a", "b", "c"), "character", valid=valid)


@pytest.fixture
def stop_in_the_middle(monkeypatch):
    """Lets the next run get SIGTERM in its fourth step, or another."""

    def arm(last=4):
        chunks = dnas.data.TextFeed.chunks
        steps = []

        def stopping(self, start, stop, size):
            for batches, count in chunks(self, start, stop, size):
                steps.append(count)
                if len(steps) == last:
                    monkeypatch.undo()
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batches, count

        monkeypatch.setattr(dnas.data.TextFeed, "chunks", stopping)

    return arm


def bits(tree):
    """All arrays of a pytree as bytes."""
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_a_search_that_was_stopped_ends_as_one_that_was_not(tmp_path, stop_in_the_middle):
    def run(folder):
        return dnas.search(SPACE, text(), PRESET, workdir=folder, chunk=1, progress=False)

    whole = run(tmp_path / "whole")
    stop_in_the_middle()
    with pytest.raises(loop.Stopped, match="after step 4"):
        run(tmp_path / "resumed")
    resumed = run(tmp_path / "resumed")
    assert bits(resumed.alphas) == bits(whole.alphas)
    assert resumed.history == whole.history and resumed.genotype == whole.genotype
    assert {"train_perplexity", "valid_bits_per_character"} <= set(whole.history[-1])


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path, stop_in_the_middle):
    genotype = SPACE.sample(np.random.default_rng(0))

    def run(folder):
        return dnas.train(SPACE, genotype, text(), RECIPE, workdir=folder, chunk=1, progress=False)

    whole = run(tmp_path / "whole")
    stop_in_the_middle()
    with pytest.raises(loop.Stopped, match="after step 4"):
        run(tmp_path / "resumed")
    resumed = run(tmp_path / "resumed")
    assert bits(nnx.state(resumed.network)) == bits(nnx.state(whole.network))
    assert resumed.history == whole.history and resumed.test == whole.test
    opened = dnas.evaluate(tmp_path / "whole", text(), batch_size=3)
    assert opened.metrics == whole.test


def test_a_training_averages_once_the_validation_loss_stops_falling(tmp_path, stop_in_the_middle):
    # Steps so long that the loss of the second epoch is above that of the first.
    recipe = dataclasses.replace(
        RECIPE, epochs=4, learning_rate=60.0, final_learning_rate=60.0, averaging=1
    )
    genotype = SPACE.sample(np.random.default_rng(0))

    def run(folder):
        return dnas.train(SPACE, genotype, text(), recipe, workdir=folder, chunk=1, progress=False)

    whole = run(tmp_path / "whole")
    losses = [line["valid_loss"] for line in whole.history]
    assert losses[2] > losses[0]  # averaging begins after the third epoch
    stop_in_the_middle(20)
    with pytest.raises(loop.Stopped, match="after step 20"):
        run(tmp_path / "resumed")
    resumed = run(tmp_path / "resumed")
    assert bits(nnx.state(resumed.network)) == bits(nnx.state(whole.network))
    assert resumed.history == whole.history and resumed.test == whole.test
    opened = dnas.open(tmp_path / "whole")  # with the average, as it was tested
    assert bits(nnx.state(opened.network)) == bits(nnx.state(whole.network))
    assert dnas.evaluate(opened, text(), batch_size=3).metrics == whole.test
    plain = dataclasses.replace(recipe, averaging=0)
    last = dnas.train(SPACE, genotype, text(), plain, progress=False)
    assert bits(nnx.state(last.network)) != bits(nnx.state(whole.network))
    unchecked = dataclasses.replace(text(), valid=None)
    with pytest.raises(ValueError, match="averaging=1: expected 0, since the data set 'toy' has"):
        dnas.train(SPACE, genotype, unchecked, recipe)


def test_steps_carry_the_state_on_and_begin_anew_where_a_batch_says_so():
    task = text().task()
    genotype = SPACE.sample(np.random.default_rng(0))
    training = supervised(SPACE, genotype, task, RECIPE, total_steps=4)
    state = training.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    batch = {
        "tokens": jnp.asarray(rng.integers(0, 3, (3, 5)), jnp.int32),
        "targets": jnp.asarray(rng.integers(0, 3, (3, 5)), jnp.int32),
        "reset": jnp.array([True, True, True]),
    }
    after, _ = training.step(state, batch)
    _, wanted = training.network(state)(
        (batch["tokens"], SPACE.initial_carry(3)), train=True, key=_path_key(state)
    )
    np.testing.assert_allclose(after.carry, wanted, rtol=1e-6)
    # A row that begins anew forgets what was carried, the others do not.
    on = {**batch, "reset": jnp.array([False, True, False])}
    _, sums = training.step(after, on)
    carry = after.carry.at[1].set(0)
    outputs, _ = training.network(after)((on["tokens"], carry), train=True, key=_path_key(after))
    _, expected = task.loss(outputs.logits, on["targets"])
    assert float(sums["train"]["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    # Windows one after the other are one window twice as long, where nothing is dropped.
    network = training.network(after)
    tokens = jnp.concatenate([batch["tokens"], on["tokens"]], 1)
    whole, end = network((tokens, SPACE.initial_carry(3)))
    first, middle = network((batch["tokens"], SPACE.initial_carry(3)))
    second, last = network((on["tokens"], middle))
    both = jnp.concatenate([first.logits.logits, second.logits.logits], 1)
    np.testing.assert_allclose(both, whole.logits.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, end, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_a_state_of_float32():
    task = text().task()
    recipe = dataclasses.replace(RECIPE, dtype="bfloat16")
    genotype = SPACE.sample(np.random.default_rng(0))
    training = supervised(SPACE, genotype, task, recipe, total_steps=4)
    state = jax.eval_shape(training.init, jax.random.key(0))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), task.examples)
    new, sums = jax.eval_shape(training.step, state, batch)
    assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, state)
    assert new.carry.dtype == sums["train"]["loss"].dtype == jnp.float32
    half = str(
        jax.make_jaxpr(training.step)(
            training.init(jax.random.key(0)),
            {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()},
        )
    )
    assert "bf16[3,4]" in half


def _path_key(state):
    """The key of a training step's masks."""
    return jax.random.split(jax.random.fold_in(state.key, state.step))[1]


def test_a_search_carries_both_streams_and_its_gradient_ends_where_a_window_begins():
    task = text().task()
    search = PRESET.build(SPACE, task, steps_per_epoch=4, epochs=1, carry=SPACE.initial_carry(3))
    state = search.init(jax.random.key(0))
    rng = np.random.default_rng(1)

    def batch(reset):
        tokens = jnp.asarray(rng.integers(0, 3, (2, 3, 5)), jnp.int32)
        return {"tokens": tokens[0], "targets": tokens[1], "reset": jnp.full(3, reset)}

    step = jax.jit(search.step)
    first, _ = step(state, batch(True), batch(True))
    train, valid = first.carry["train"], first.carry["valid"]
    assert train.shape == valid.shape == (3, 4)
    assert np.abs(train).max() > 0 and np.abs(train - valid).max() > 1e-3
    batches = batch(False), batch(False)
    on, metrics = step(first, *batches)
    forgot, other = step(first._replace(carry=state.carry), *batches)
    assert float(metrics["train"]["loss"]) != float(other["train"]["loss"])
    assert float(metrics["valid"]["loss"]) != float(other["valid"]["loss"])
    # What was carried is a number to the next step: steps do not depend on how it came about.
    copied = first._replace(carry=jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), first.carry))
    again, _ = step(copied, *batches)
    assert bits(again[:3]) == bits(on[:3]) and bits(forgot[:3]) != bits(on[:3])


def test_spaces_without_a_carry_are_as_they_were():
    space = dnas.spaces.NASBench201(channels=2, cells=1)
    assert sequences.initial_carry(space, 3) == ()
    assert sequences.read(lambda x, y: x + y, 1, (), 2) == (3, ())
    assert not isinstance(space, sequences.Carrying) and isinstance(SPACE, sequences.Carrying)


def test_several_devices_are_refused():
    data = text()
    with pytest.raises(ValueError, match="parallel='pmap': expected 'none', since networks of"):
        dnas.search(SPACE, data, PRESET, parallel="pmap", progress=False)
    with pytest.raises(ValueError, match="parallel='pmap': expected 'none', since networks of"):
        dnas.train(SPACE, SPACE.sample(np.random.default_rng(0)), data, RECIPE, parallel="pmap")


def test_images_are_no_text():
    digits = dnas.data.digits()
    with pytest.raises(ValueError, match="the space 'recurrent' reads tokens"):
        dnas.search(SPACE, digits, PRESET, progress=False)
    with pytest.raises(ValueError, match="reads images"):
        dnas.search(dnas.spaces.NASBench201(), text(), PRESET, progress=False)
