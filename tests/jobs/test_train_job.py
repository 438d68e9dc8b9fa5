"""Training from scratch: the test split, resuming, seeds, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from dnas import data as datasets
from dnas.data import Augment
from dnas.jobs.train import check, train
from dnas.runtime import loop, workdir
from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.tasks import Classification
from dnas.training.published import darts_recipe, nas_bench_201_recipe
from dnas.training.recipe import Recipe
from dnas.training.trainer import Trainer

RECIPE = Recipe(
    epochs=3,
    batch_size=6,
    learning_rate=0.1,
    weight_decay=1e-4,
    drop_path=0.2,
    auxiliary_weight=0.4,
    augment=Augment(crop_padding=1),
)


def weights(result):
    return jax.tree.leaves(nnx.to_pure_dict(nnx.state(result.network)))


def equal(one, other):
    pairs = zip(weights(one), weights(other), strict=True)
    return all((np.asarray(a) == np.asarray(b)).all() for a, b in pairs)


@pytest.fixture
def trained(toy, stripes):
    """Trains the toy's tanh network."""

    def run(data=stripes, recipe=RECIPE, **options):
        return train(toy, toy.genotype("tanh"), data, recipe, progress=False, chunk=2, **options)

    return run


class LockedSource(datasets.dataset.ArraySource):
    """Nothing may be read from it before it is unlocked."""

    def load(self, indices):
        assert self.unlocked, "the test split was read"
        self.reads.append(len(indices))
        return super().read(indices)

    read = load

    def column(self, name, indices):
        return self.load(indices)[name]


@pytest.fixture
def locked(stripes):
    """The stripes with a test split that is locked."""
    source = LockedSource(stripes.test.arrays)
    source.__dict__.update(unlocked=False, reads=[])
    return dataclasses.replace(stripes, test=datasets.Split.all(source)), source


def test_test_split_is_read_after_training_and_once(trained, locked, monkeypatch, tmp_path):
    data, source = locked
    run = loop.run

    def unlocking(*args, **kwargs):
        outcome = run(*args, **kwargs)
        source.__dict__["unlocked"] = True
        return outcome

    monkeypatch.setattr(loop, "run", unlocking)
    result = trained(data, workdir=tmp_path)
    assert len(source.reads) >= 1
    source.reads.clear()
    # Finished once, the same call gives the same without another look at the test split.
    again = trained(data, workdir=tmp_path)
    assert source.reads == []
    assert again == result
    assert equal(again, result)


def test_network_learns_and_is_tested_with_its_last_weights(trained, stripes):
    recipe = dataclasses.replace(RECIPE, epochs=20, augment=Augment())
    result = trained(recipe=recipe)
    assert result.test["accuracy"] == 1.0
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert [line["step"] for line in result.history[:2]] == [5, 10]
    images = datasets.normalise(stripes.test.images, stripes.mean, stripes.std)
    assert (result.network(images).logits.argmax(-1) == stripes.test.labels).all()
    # 12 inputs, 4 hidden units with scale and shift, 4 classes; without the auxiliary head.
    assert result.parameters == (12 * 4 + 4) + 2 * 4 + (4 * 4 + 4)
    assert result.multiply_adds == 12 * 4 + 4 * 4


def test_one_seed_gives_the_same_weights_and_another_does_not(trained):
    first, again, other = (trained(seed=seed) for seed in (1, 1, 2))
    assert equal(first, again)
    assert not equal(first, other)
    assert (first.seed, other.seed) == (1, 2)


def test_killed_training_resumes_bit_for_bit(trained, tmp_path, monkeypatch):
    whole = trained(workdir=tmp_path / "whole")
    make_feed = datasets.make_feed

    def breaking(*args, **kwargs):
        feed = make_feed(*args, **kwargs)
        chunks = feed.chunks

        def some(start, stop, size):
            if start >= 10:
                raise RuntimeError("power cut")
            yield from chunks(start, stop, size)

        feed.chunks = some
        return feed

    with monkeypatch.context() as patch:
        patch.setattr(datasets.batched, "make_feed", breaking)
        with pytest.raises(RuntimeError, match="power cut"):
            trained(workdir=tmp_path / "killed")
    resumed = trained(workdir=tmp_path / "killed")
    assert equal(resumed, whole)
    assert resumed.history == whole.history
    assert resumed.test == whole.test


def test_directory_of_other_settings_is_refused(trained, tmp_path):
    trained(workdir=tmp_path)
    recipe = dataclasses.replace(RECIPE, learning_rate=0.2)
    with pytest.raises(workdir.ContradictionError, match=r"train\.learning_rate: 0\.1 there"):
        trained(recipe=recipe, workdir=tmp_path)


def test_stored_accuracy_does_not_answer_for_another_test_split(trained, stripes, tmp_path):
    trained(workdir=tmp_path)
    train, (images, labels) = stripes.train, (stripes.test.images, stripes.test.labels)
    for others, named in (
        ((images, labels[::-1]), ["test.content"]),
        ((255 - images, labels), ["test.content"]),
        ((images[:-1], labels[:-1]), ["test.examples", "test.content"]),
    ):
        data = datasets.from_arrays(train.images, train.labels, *others, name="stripes")
        with pytest.raises(workdir.ContradictionError) as caught:
            trained(data, workdir=tmp_path)
        lines = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-1]]
        assert lines == [f"data.{name}" for name in named]
        assert "dnas.evaluate(workdir, data) tests a trained network" in str(caught.value)


def test_divergence_is_reported_and_the_test_split_not_read(trained, locked):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e9, auxiliary_weight=0.0)
    blamed = r"Likely the cause: train\.learning_rate=1000000000\.0 is extreme"
    with pytest.raises(loop.DivergedError, match=blamed):
        trained(locked[0], recipe)


def test_trainer_compiles_once_for_all_seeds(toy, stripes, monkeypatch):
    genotype = toy.genotype("relu")
    trainer = Trainer(toy, genotype, stripes, RECIPE)
    kind = type(toy.network(genotype, Classification((4, 3, 1), 4), rngs=nnx.Rngs(0)))
    traces, call = [], kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda *a, **k: traces.append(1) or call(*a, **k))
    first = trainer.run(0, progress=False, chunk=2)
    number = len(traces)
    second = trainer.run(1, progress=False, chunk=2)
    assert len(traces) == number > 0
    assert not equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 31}, "batch_size must be at most 30.*got 31"),
        ({"augment": Augment(crop_padding=3)}, "crop_padding"),
        ({"augment": Augment(cutout=5)}, "cutout"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(trained, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        trained(recipe=dataclasses.replace(RECIPE, **change), workdir=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_head_that_a_space_does_not_have_is_refused(toy, stripes):
    headless = dataclasses.replace(toy, head=False)
    with pytest.raises(ValueError, match=r"auxiliary_weight must be 0 here, got 0\.4: no aux"):
        train(headless, toy.genotype("relu"), stripes, RECIPE)


def test_checks_decode_nothing(toy, locked):
    """The head and the sizes are refused, and a good setting passes, with the images locked."""
    data = dataclasses.replace(locked[0], train=locked[0].test)
    genotype = toy.genotype("relu")
    check(toy, genotype, data, RECIPE)
    for space, change in (
        (dataclasses.replace(toy, head=False), {}),
        (toy, {"augment": Augment(cutout=5)}),
        (toy, {"batch_size": 12}),
    ):
        with pytest.raises(ValueError, match=r"auxiliary_weight|cutout|batch_size"):
            check(space, genotype, data, dataclasses.replace(RECIPE, **change))


def test_genotype_of_another_space_is_refused(toy, stripes):
    genotype = dataclasses.replace(toy.genotype("relu"), space="darts")
    with pytest.raises(ValueError, match="'darts'"):
        train(toy, genotype, stripes, RECIPE)


@pytest.mark.parametrize(
    ("space", "recipe"),
    [
        (DARTS(channels=2, cells=3), darts_recipe(batch_size=2, dtype="bfloat16")),
        (NASBench201(channels=2, cells=1), nas_bench_201_recipe(batch_size=2, drop_path=0.1)),
    ],
    ids=["darts", "nas_bench_201"],
)
def test_published_recipes_fit_their_spaces(space, recipe):
    """Traces the whole step; compiles nothing."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    labels = np.arange(4) % 2
    data = datasets.from_arrays(images, labels, images, labels)
    check(space, space.sample(rng), data, recipe)
