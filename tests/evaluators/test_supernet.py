"""A real supernet, tiny, and its evaluators: same numbers as by hand, one compilation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dnas import costs, data, presets, search, selection, spaces
from dnas.choices import stacked
from dnas.evaluators import Fidelity, SharedWeights, ShortTraining, Supernet
from dnas.gradient import skeleton
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.workdir import Workdir
from dnas.spaces import nas_bench_201

SPACE = spaces.NASBench201(channels=2, cells=1, stages=1, nodes=3)
BATCH = 64


class Trained:
    """A short search on the digits, and how often its supernet was traced since."""

    def __init__(self, patch):
        self.data = data.digits()
        self.feed = data.make_feed(data.halve(self.data.train, 0), BATCH, jax.random.key(1))
        self.task = task = self.data.task()
        self.search = presets.darts(alpha_learning_rate=0.1).build(
            SPACE, task, steps_per_epoch=11, epochs=2
        )
        state = jax.jit(self.search.init)(jax.random.key(0))
        # Untrained weights of the right size do; alphas that differ keep options apart.
        self.state = state._replace(
            alphas={"cell": jnp.float32(np.random.default_rng(0).normal(size=(3, 5)))},
            step=jnp.int32(5),
        )
        self.graph = nnx.graphdef(SPACE.supernet(task, rngs=nnx.Rngs(0)))
        self.traces = 0
        call = nas_bench_201.Supernet.__call__

        def counted(net, *args, **kwargs):
            self.traces += 1
            return call(net, *args, **kwargs)

        patch.setattr(nas_bench_201.Supernet, "__call__", counted)

    def supernet(self, examples=130):
        return Supernet(
            *(SPACE, self.task, self.search, self.state, self.feed),
            optimizer=optax.sgd(0.1),
            examples=examples,
            journal=Journal(Workdir(None), Interrupts()),
        )

    def short_training(self, others=None):
        return ShortTraining(
            *(SPACE, self.task, self.search, self.feed),
            optimizer=lambda steps: optax.sgd(0.1),
            others=others,
            key=jax.random.key(0),
            noise=jax.random.key(1),
            journal=Journal(Workdir(None), Interrupts()),
        )

    @property
    def mix(self):
        return {"cell": np.asarray(jax.nn.softmax(self.state.alphas["cell"]))}

    def ended(self, supernet, seed=0):
        """The search's end, as selections see it."""
        validate = functools.partial(supernet.validate, self.state, single_path=True)
        weights = SharedWeights(SPACE, validate, self.mix)
        return selection.Trained(SPACE, self.mix, jax.random.key(seed), supernet, weights, None)

    def by_hand(self, params, mix, rows, part):
        """Mean loss and accuracy over batches of these images."""
        half, found = self.feed.parts[part], []
        forward = jax.jit(lambda *args: skeleton.merge(self.graph, params)(*args))
        for some in rows.reshape(-1, BATCH):
            images = data.normalise(jnp.asarray(half.images[some]), self.data.mean, self.data.std)
            logits = forward(images, mix)
            right = jax.nn.log_softmax(logits)[np.arange(BATCH), half.labels[some]]
            found.append((-right.mean(), (logits.argmax(-1) == half.labels[some]).mean()))
        return np.mean(found, 0)


@pytest.fixture(scope="module")
def trained():
    with pytest.MonkeyPatch.context() as patch:
        yield Trained(patch)


def pair(scores):
    """Losses and accuracies ``[2, n]``."""
    return np.stack([scores.metrics["loss"], scores.metrics["accuracy"]])


def cell(options):
    """The architecture of some options."""
    return SPACE.discretize({"cell": np.eye(5)[options]})


@pytest.mark.slow
def test_selections_on_a_supernet_are_deterministic_and_compile_once(trained):
    supernet = trained.supernet()
    ended = trained.ended(supernet)
    before = trained.traces
    first = selection.perturbation(epochs=0.3)(ended)  # 3 steps of fine-tuning
    traces = trained.traces - before
    assert 2 <= traces <= 4  # evaluation, and fine-tuning: its metrics' shapes take one more
    again = selection.perturbation(epochs=0.3)(ended)
    other = selection.perturbation(epochs=0.6)(trained.ended(supernet, seed=1))
    assert trained.traces - before == traces
    assert first == again and len(other.record) == 3
    SPACE.validate(first.genotype)
    assert {d["row"] for d in first.record} == set(SPACE.part.rows)
    lows = [min(s["accuracy"] for s in d["without"].values()) for d in first.record]
    taken = [d["without"][d["option"]]["accuracy"] for d in first.record]
    assert lows == taken

    sampled = selection.best_of_samples(6)(ended)
    assert trained.traces - before == traces + 1  # single paths have a program of their own
    genotype, (record,) = sampled
    assert record["accuracy"] == max(score["accuracy"] for score in record["scores"])
    mix = selection.one_hot(SPACE, genotype, trained.mix)
    mixed = supernet.validate(trained.state, stacked([mix]))
    np.testing.assert_allclose([record["loss"], record["accuracy"]], pair(mixed)[:, 0], rtol=1e-4)


@pytest.mark.slow
def test_numbers_are_those_of_the_supernet(trained):
    supernet, state = trained.supernet(), trained.state
    half = trained.feed.parts[1]
    rows = np.linspace(0, len(half) - 1, 128).astype(int)  # 130 examples are two whole batches
    mixes = {"cell": np.stack([trained.mix["cell"], np.eye(5, dtype=np.float32)[[3, 3, 3]]])}
    scores = supernet.validate(state, mixes)
    for i in range(2):
        expected = trained.by_hand(state.params, {"cell": mixes["cell"][i]}, rows, 1)
        np.testing.assert_allclose(pair(scores)[:, i], expected, rtol=1e-4)
    p = scores.metrics["accuracy"]
    np.testing.assert_array_equal(scores.value, p)
    np.testing.assert_allclose(scores.error, np.sqrt(p * (1 - p) / 128), rtol=1e-6)
    few = trained.supernet(examples=1).validate(state, mixes)
    some = np.linspace(0, len(half) - 1, BATCH).astype(int)
    expected = trained.by_hand(state.params, trained.mix, some, 1)
    np.testing.assert_allclose(pair(few)[:, 0], expected, rtol=1e-4)  # one batch is the least


@pytest.mark.slow
def test_fine_tuning_by_hand(trained):
    supernet, state = trained.supernet(), trained.state
    mix = {"cell": jnp.float32([[0, 0, 0, 1, 0], [0, 0.5, 0, 0.5, 0], [0, 1, 0, 0, 0]])}
    tuned = supernet.finetune(state, mix, 1)
    # The batch is that of the search's next step.
    ((train, _),) = [batches for batches, _ in trained.feed.chunks(5, 6, 1)]
    images = data.normalise(train["image"][0], trained.data.mean, trained.data.std)

    def loss(params):
        logits = skeleton.merge(trained.graph, params)(images, mix)
        return optax.softmax_cross_entropy_with_integer_labels(logits, train["label"][0]).mean()

    gradient = jax.jit(jax.grad(loss))(state.params)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, gradient)
    for found, right in zip(*map(jax.tree.leaves, (tuned.params, expected)), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6)
    assert (int(tuned.step), int(state.step)) == (6, 5)  # what came in is still there
    np.testing.assert_array_equal(tuned.alphas["cell"], state.alphas["cell"])


@pytest.mark.slow
def test_trainings_from_scratch_are_those_of_fine_tuned_first_weights(trained):
    short_training, supernet = trained.short_training(), trained.supernet()
    genotypes = [cell([3, 3, 3]), cell([1, 3, 2])]
    half = trained.feed.parts[1]

    rows = np.linspace(0, len(half) - 1, len(half) // BATCH * BATCH).astype(int)
    for seed in (0, 1):
        scores = short_training(genotypes, Fidelity(2, seed))
        np.testing.assert_array_equal(scores.cost, [2, 2])
        first = trained.search.init(jax.random.fold_in(jax.random.key(0), seed))
        for i, genotype in enumerate(genotypes):  # all begin with these weights and images
            mix = selection.one_hot(SPACE, genotype)
            tuned = supernet.finetune(first, mix, 2)  # with that optimizer, in the mixed supernet
            expected = trained.by_hand(tuned.params, {"cell": jnp.float32(mix["cell"])}, rows, 1)
            np.testing.assert_allclose(pair(scores)[:, i], expected, rtol=1e-3)


def test_a_training_without_steps_is_refused(trained):
    with pytest.raises(ValueError, match="budget=None: expected a number of training steps"):
        trained.short_training()([cell([3, 3, 3])], Fidelity())


@pytest.mark.slow
def test_two_trainings_at_a_time_are_those_of_one(trained, monkeypatch):
    genotypes = list(map(cell, ([3, 3, 3], [1, 3, 2], [2, 3, 1], [3, 1, 3])))
    steps = trained.feed.steps_per_epoch + 2  # the order of two epochs
    found = []
    for at_a_time in (1, 2):
        name = "dnas.evaluators.short_training.at_a_time"
        monkeypatch.setattr(name, lambda n=at_a_time: n)
        short_training = trained.short_training()
        found.append([pair(short_training(genotypes, Fidelity(steps))) for _ in range(2)])
    np.testing.assert_array_equal(*found)
    assert len(set(found[0][0][0])) == 4


@pytest.mark.slow
def test_resuming_keeps_what_is_decided(trained):
    supernet, state = trained.supernet(), trained.state
    masks = {"cell": np.ones((3, 5))}
    masks["cell"][1] = np.eye(5)[4]
    found, mix = supernet.resume(state, masks, 2)
    np.testing.assert_array_equal(mix["cell"][1], np.eye(5)[4])
    np.testing.assert_allclose(mix["cell"].sum(-1), 1, rtol=1e-6)
    moved = np.abs(mix["cell"] - trained.mix["cell"]).max(-1)
    assert moved[0] > 1e-2 and moved[2] > 1e-2 and int(found.step) == 7
    again, _ = supernet.resume(state, masks, 2)
    np.testing.assert_array_equal(again.alphas["cell"], found.alphas["cell"])


@pytest.mark.slow
def test_every_selection_decides_cells_whose_edges_have_tables_of_their_own():
    edges = (("skip_connect", "sep_conv_3x3"), ("none", "skip_connect", "max_pool_3x3"))
    space = spaces.DARTS(
        channels=2, cells=3, nodes=1, stem_multiplier=1, normal=edges, reduce=edges
    )
    selections = {
        "largest_of_close": selection.largest_of_close(selection.limited_skips(0, True)),
        "perturbation": selection.perturbation(0.2),
        "progressive": selection.progressive(0.2),
        "best_of_samples": selection.best_of_samples(3),
        "local_search": selection.local_search(sweeps=1),
        "short_trainings": selection.short_trainings(epochs=0.2, count=4, longer=2),
    }
    found = {}

    def select(trained):
        found.update({name: make(trained) for name, make in selections.items()})
        genotype = found["local_search"].genotype
        mixes = stacked([selection.one_hot(space, genotype, trained.mix)])
        mixed = trained.supernet.validate(trained.supernet.state, mixes)
        found["paths"] = pair(mixed), pair(trained.shared_weights([genotype]))
        sizes = costs.parameters(space, few.task(measured=False))
        for name, table in trained.parameters().items():
            np.testing.assert_array_equal(table, sizes[name])
        return found["short_trainings"]

    few = data.digits()
    few = dataclasses.replace(few, train=data.limit(few.train, 96, seed=0))
    settings = {"epochs": 1, "batch_size": 16, "seed": 0, "progress": False}
    result = search(space, few, presets.darts(selection=select), **settings)
    np.testing.assert_allclose(*found.pop("paths"), rtol=1e-4)
    assert result.genotype == found["short_trainings"].genotype
    for name, (genotype, record) in found.items():
        space.validate(genotype)
        assert record, name
    decided = {(line["part"], line["row"]) for line in found["progressive"].record}
    assert len(decided) == 4  # the edges of a normal and of a reduction cell
