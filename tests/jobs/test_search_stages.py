"""Searches that end early, select their result, or run in stages."""

import dataclasses
import json
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from toys import Rows

import dnas
from dnas import data as datasets
from dnas import presets, selection
from dnas.evaluators import Fidelity
from dnas.genotype import Genotype
from dnas.gradient.stopping import Stopping
from dnas.jobs import stages
from dnas.jobs.search import search
from dnas.nn.supernet.inherit import inherit
from dnas.presets.stages import Stage, keep_strongest
from dnas.runtime import loop, workdir
from dnas.selection import Selected
from dnas.space import Decision
from dnas.spaces.nas_bench_201 import NASBench201

CHOICES = {"relu": jax.nn.relu, "tanh": jnp.tanh, "skip_connect": lambda x: x}


class Supernet(nnx.Module):
    def __init__(self, task, rngs):
        self.hidden = nnx.Linear(int(np.prod(task.inputs.shape)), 5, rngs=rngs)
        self.head = nnx.Linear(5, task.classes, rngs=rngs)

    def __call__(self, x, mix, key=None):
        x = self.hidden(x.reshape(len(x), -1))
        return self.head(sum(w * f(x) for w, f in zip(mix["only"][0], CHOICES.values())))  # noqa: B905


@dataclasses.dataclass(frozen=True)
class Activation(Rows):
    name = "activation"

    @property
    def decisions(self):
        return {"only": Decision("only", ("0->1",), tuple(CHOICES))}

    def supernet(self, task, *, rngs):
        return Supernet(task, rngs)


def data(n=24):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (n, 4, 4, 1), np.uint8), np.arange(n) % 3
    return datasets.from_arrays(images, labels, images[:3], labels[:3])


def run(preset, folder=None, space=Activation(), **options):
    options = {"epochs": 6, "batch_size": 4, "progress": False, "workdir": folder} | options
    return search(space, data(), preset, **options)


def interrupted_after(epoch, monkeypatch, preset, folder, **options):
    """A run that gets SIGTERM when it writes the files of an epoch."""
    original = workdir.Workdir.append_metrics

    def append(self, line):
        original(self, line)
        if line["epoch"] == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(workdir.Workdir, "append_metrics", append)
        with pytest.raises(loop.Stopped):
            run(preset, folder, **options)


def same(a, b, folders):
    assert a.genotype == b.genotype and a.history == b.history and a.epoch == b.epoch
    for name, array in a.trajectory.items():
        assert array.tobytes() == b.trajectory[name].tobytes()
    for name in ("metrics.jsonl", "genotype.json", "report.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


class Asked:
    """A rule that goes two epochs back after the fourth, and remembers what it was asked."""

    def __init__(self):
        self.records = []

    @property
    def stopping(self):
        return Stopping(self.rule, eigenvalue=True)

    def rule(self, records):
        self.records.append(list(records))
        return 2 if len(records) == 4 else None


def test_a_rule_ends_the_search_and_names_its_result(tmp_path, monkeypatch):
    asked = Asked()
    preset = presets.darts(stopping=asked.stopping, alpha_learning_rate=0.5)
    result = run(preset, tmp_path / "whole")
    assert [len(records) for records in asked.records] == [1, 2, 3, 4]
    assert result.epoch == 2 and len(result.history) == 4
    assert result.trajectory["alphas/only"].shape == (5, 1, 3)
    np.testing.assert_array_equal(result.alphas["only"], result.trajectory["alphas/only"][2])
    assert (result.alphas["only"] != result.trajectory["alphas/only"][4]).all()
    mixes = result.trajectory["mix/only"]
    assert result.genotype == Activation().discretize({"only": mixes[2]})
    assert Genotype.load(tmp_path / "whole" / "genotype.json") == result.genotype
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report["epoch"] == 2 and report["report"] == result.report
    for epoch, record in enumerate(asked.records[-1], 1):
        assert record.genotype == Activation().discretize({"only": mixes[epoch]})
        assert record.eigenvalue == result.history[epoch - 1]["eigenvalue"] != 0

    # Resumed at the end of an epoch, and begun again when all was done, it decides the same.
    interrupted_after(3, monkeypatch, preset, tmp_path / "resumed")
    resumed = run(preset, tmp_path / "resumed")
    same(result, resumed, (tmp_path / "whole", tmp_path / "resumed"))
    again = run(preset, tmp_path / "resumed")
    same(result, again, (tmp_path / "whole", tmp_path / "resumed"))

    (tmp_path / "resumed" / "alphas.npz").unlink()
    with pytest.warns(UserWarning, match=r"alphas\.npz lacks epochs"):
        same(result, run(preset, tmp_path / "resumed"), (tmp_path / "whole", tmp_path / "resumed"))


def test_a_rule_is_asked_after_the_last_epoch_too(tmp_path):
    asked = Asked()
    preset = presets.darts(stopping=asked.stopping, alpha_learning_rate=0.5)
    result = run(preset, tmp_path, epochs=4)
    assert len(asked.records) == 4 and result.epoch == 2 and len(result.history) == 4
    assert run(preset, tmp_path, epochs=4).genotype == result.genotype
    np.testing.assert_array_equal(result.alphas["only"], result.trajectory["alphas/only"][2])


def test_the_eigenvalue_is_that_of_the_next_steps_batches():
    preset = presets.darts(stopping=Stopping(lambda records: None, eigenvalue=True))
    result = run(preset, epochs=1)
    done = stages.run(
        stages.Setting(data(), 0, 4, datasets.Augment(), _one_device(), None, False),
        presets.darts(),
        Activation(),
        1,
        workdir.Workdir(None),
    )
    (batches, _), *_ = done.feed.chunks(3, 4, 1)
    first = jax.tree.map(lambda x: x[0], batches)
    expected = done.method.eigenvalue(done.state, *first)
    np.testing.assert_allclose(result.history[0]["eigenvalue"], expected, rtol=1e-4)


def _one_device():
    from dnas.runtime import parallel

    return parallel.make("none")


class Best:
    """A selection of the choice that validates best, which remembers what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, trained):
        self.calls.append(trained)
        supernet = trained.supernet
        scores = supernet.validate(supernet.state, {"only": np.eye(3)[:, None]})
        losses = scores.metrics["loss"]
        best = list(CHOICES)[int(np.argmax(losses))]  # any choice that is not the strongest
        genotype = Genotype.create("activation", {"only": {"0->1": best}})
        return Selected(genotype, [{"losses": losses.tolist()}])


def test_a_selection_is_made_of_the_trained_supernet_and_only_once(tmp_path):
    select = Best()
    preset = presets.darts(selection=select, stopping=Asked().stopping, alpha_learning_rate=0.5)
    result = run(preset, tmp_path)
    (trained,) = select.calls
    np.testing.assert_array_equal(trained.mix["only"], result.mix["only"])
    np.testing.assert_array_equal(trained.supernet.state.alphas["only"], result.alphas["only"])
    assert len(result.selection[0]["losses"]) == 3
    assert Genotype.load(tmp_path / "genotype.json") == result.genotype
    assert json.loads((tmp_path / "report.json").read_text())["selection"] == result.selection
    again = run(preset, tmp_path)
    assert len(select.calls) == 1 and again.genotype == result.genotype
    assert again.selection == result.selection


CELLS = NASBench201(
    channels=2, cells=1, stages=1, nodes=2, operations=("skip_connect", "nor_conv_1x1", "none")
)


def shrinking(seen, **changes):
    """Two stages; in the second, one candidate less and a cell more."""

    def shrink(base, before, mix):
        seen.append(keep_strongest(before, mix, 2 / 3))
        return dataclasses.replace(base.restrict(seen[-1]), cells=2)

    parts = (Stage(0.5), Stage(0.5, shrink, goes_on=True, settings={"clip_norm": 0.0}))
    return presets.darts(stages=parts, alpha_learning_rate=0.1, **changes)


@pytest.mark.slow
def test_stages_go_on_from_each_other(tmp_path, monkeypatch):
    ended, begun = [], []
    original = stages._inherited

    def inherited(before, space, state, step, task):
        first = original(before, space, state, step, task)
        # Copies: the search donates its state.
        old, fresh, copy = jax.tree.map(jnp.copy, (before.state, state, first))
        ended.append((dataclasses.replace(before, state=old), fresh))
        begun.append((space, copy))
        return first

    monkeypatch.setattr(stages, "_inherited", inherited)
    seen = []
    result = run(shrinking(seen), tmp_path / "whole", CELLS, epochs=4)
    (before, fresh), (space, state) = ended[0], begun[0]
    (kept,) = (options for options in seen[-1]["cell"].values())
    assert len(kept) == 2 and space.decisions["cell"].options == kept
    # The second stage begins in the middle of the schedules, with what the first left.
    old = before.state
    assert int(old.step) == int(state.step) == 6 and before.epoch == 2
    expected = inherit(CELLS, old.params, space, fresh.params, data().task())
    chex.assert_trees_all_equal(state.params, expected)
    momentum, former = (optax.tree.get(s.weight_opt, "trace") for s in (state, old))
    zeros = jax.tree.map(jnp.zeros_like, fresh.params)
    chex.assert_trees_all_equal(momentum, inherit(CELLS, former, space, zeros, data().task()))
    assert optax.tree.norm(momentum) > 0
    assert int(optax.tree.get(state.weight_opt, "count")) == 6
    places = [CELLS.operations.index(option) for option in kept]
    np.testing.assert_array_equal(state.alphas["cell"], old.alphas["cell"][:, jnp.array(places)])

    # The result is that of the last stage, with the history of all.
    CELLS.validate(result.genotype)
    assert set(result.genotype["cell"].values()) <= set(kept)
    assert [line["epoch"] for line in result.history] == [1, 2, 3, 4]
    assert [line["step"] for line in result.history] == [3, 6, 9, 12]
    assert result.trajectory["alphas/cell"].shape == (3, 1, 2)
    np.testing.assert_array_equal(result.trajectory["alphas/cell"][0], state.alphas["cell"])
    folder = tmp_path / "whole"
    assert Genotype.load(folder / "genotype.json") == result.genotype
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    with np.load(folder / "alphas.npz") as arrays:
        assert arrays["alphas/cell"].tobytes() == result.trajectory["alphas/cell"].tobytes()
    opened = dnas.open(folder)
    assert opened.finished and opened.genotype == result.genotype
    assert opened.history == result.history and opened.decisions["cell"].options == kept
    assert (folder / "cell.png").is_file() and (folder / "stage2" / "metrics.jsonl").is_file()

    # Interrupted in the second stage, it resumes there.
    files = []
    original_append = workdir.Workdir.append_metrics

    def append(self, line):
        original_append(self, line)
        files.append(self.path.name)
        if self.path.name == "stage2" and line["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(workdir.Workdir, "append_metrics", append)
        with pytest.raises(loop.Stopped):
            run(shrinking([]), tmp_path / "resumed", CELLS, epochs=4)
    assert files == ["stage1", "stage1", "stage2"]
    opened = dnas.open(tmp_path / "resumed")
    assert not opened.finished and opened.decisions["cell"].options == kept
    np.testing.assert_array_equal(opened.alphas["cell"], result.trajectory["alphas/cell"][1])
    with pytest.raises(
        workdir.WorkdirError, match=r"stage2 is a stage of a search: open .*resumed"
    ):
        dnas.open(tmp_path / "resumed" / "stage2")
    resumed = run(shrinking([]), tmp_path / "resumed", CELLS, epochs=4)
    same(result, resumed, (folder, tmp_path / "resumed"))


def test_what_does_not_fit_is_refused_before_a_directory_is_made(tmp_path):
    with pytest.raises(ValueError, match="epochs=1: expected one epoch at least for each of 2"):
        run(shrinking([]), tmp_path / "run", CELLS, epochs=1)
    with pytest.raises(ValueError, match=r"'activation' has no field `mixing`"):
        run(presets.pc_darts(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


TRIANGLE = NASBench201(
    channels=2, cells=1, stages=1, nodes=3, operations=("skip_connect", "avg_pool_3x3", "none")
)


def two_initial_weights(trained):
    """As trainings that confirm others."""
    mixes = np.eye(3, dtype=np.float32)[[[0, 0, 0], [1, 0, 1]]]
    genotypes = [TRIANGLE.discretize({"cell": mix}) for mix in mixes]
    scores = [trained.short_training(genotypes, Fidelity(2, seed)) for seed in (0, 1)]
    losses = [found.metrics["loss"].tolist() for found in scores]
    assert len({*losses[0], *losses[1]}) == 4
    return Selected(TRIANGLE.discretize(trained.mix), [{"losses": losses}])


@pytest.mark.slow
@pytest.mark.parametrize(
    "select",
    [
        selection.perturbation(0.7),
        selection.progressive(0.7),
        selection.short_trainings(epochs=0.3),
        two_initial_weights,
    ],
    ids=["perturbation", "progressive", "short_trainings", "two_initial_weights"],
)
def test_a_selection_goes_on_where_it_was_stopped(select, tmp_path, monkeypatch):
    preset = presets.darts(selection=select, alpha_learning_rate=0.1)
    whole = run(preset, tmp_path / "whole", TRIANGLE, epochs=1)
    lines = (tmp_path / "whole" / "selection.jsonl").read_text().splitlines()
    stop, written = len(lines) - 1, []
    original = workdir.Workdir.append_line

    def append(self, name, line):
        original(self, name, line)
        if name == "selection.jsonl":
            written.append(line)
            if len(written) == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(workdir.Workdir, "append_line", append)
    with pytest.raises(loop.Stopped, match=f"SIGTERM after measurement {stop}"):
        run(preset, tmp_path / "resumed", TRIANGLE, epochs=1)
    assert not (tmp_path / "resumed" / "selection.json").exists()
    resumed = run(preset, tmp_path / "resumed", TRIANGLE, epochs=1)
    assert len(written) == len(lines)  # each was measured once
    assert resumed.selection == whole.selection
    same(whole, resumed, (tmp_path / "whole", tmp_path / "resumed"))


def test_a_selection_that_searches_on_still_trains_weights():
    def select(trained):
        masks, supernet = {"only": np.ones((1, 3))}, trained.supernet
        state, mix = supernet.resume(supernet.state, masks, 4)
        for old, new in zip(
            *map(jax.tree.leaves, (supernet.state.params, state.params)), strict=True
        ):
            assert jnp.abs(old - new).max() > 1e-4
        assert (mix["only"] != trained.mix["only"]).all()
        return Selected(Activation().discretize(mix), [])

    # The cosine ends at zero; behind it the rate is a tenth of the first.
    run(presets.darts(selection=select, final_learning_rate=0.0), epochs=1)
