"""The search job, with a toy supernet. Run as a script, this file is the process to be killed."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Rows

import dnas
from dnas import data as datasets
from dnas import presets
from dnas.data.feeds import DeviceFeed
from dnas.genotype import Genotype
from dnas.gradient import relax
from dnas.jobs.search import describe, search
from dnas.runtime import loop, workdir
from dnas.space import Decision

pytestmark = pytest.mark.optimised  # as the killed processes that these compare with


@dataclasses.dataclass(frozen=True)
class ToySpace(Rows):
    """Two rows of three options; the supernet is a mixture of constants."""

    name = "toy"
    width: int = 3

    @property
    def decisions(self):
        return {"cell": Decision("cell", ("0->1", "0->2"), ("none", "skip_connect", "conv"))}


class State(NamedTuple):
    params: jax.Array
    alphas: dict
    key: jax.Array
    step: jax.Array


class Method(NamedTuple):
    init: object
    step: object
    mix: object
    frozen: object = None


@dataclasses.dataclass(frozen=True)
class ToyPreset(presets.Preset):
    """A quadratic bilevel problem whose targets are the batches' mean brightness."""

    epochs: int = 3
    batch_size: int = 4
    rate: float = 0.1

    def build(self, space, task, *, steps_per_epoch, epochs, carry=(), axis_name=None, span=None):
        def init(key):
            alphas = {"cell": 0.1 * jax.random.normal(key, (2, 3))}
            return State(jnp.ones(3), alphas, key, jnp.zeros((), jnp.int32))

        def mix(alphas, steps=0):
            return {"cell": jax.nn.softmax(alphas["cell"])}

        def step(state, train, valid):
            key = jax.random.fold_in(state.key, state.step)

            def loss(params, alphas, batch):
                images, labels = task.prepare(key, batch, True)
                target = images.mean() + labels.mean()
                return jnp.sum((mix(alphas)["cell"] @ params - target) ** 2)

            value, grad = jax.value_and_grad(loss)(state.params, state.alphas, train)
            valid_loss, alpha_grad = jax.value_and_grad(loss, 1)(state.params, state.alphas, valid)
            if axis_name:
                grad, alpha_grad = jax.lax.pmean((grad, alpha_grad), axis_name)
                value, valid_loss = jax.lax.pmean((value, valid_loss), axis_name)
            alphas = jax.tree.map(lambda a, g: a - self.rate * g, state.alphas, alpha_grad)
            params = state.params - self.rate * grad
            metrics = {
                part: {"loss": loss, "hits": jnp.float32(0), "count": jnp.float32(1)}
                for part, loss in (("train", value), ("valid", valid_loss))
            }
            return State(params, alphas, state.key, state.step + 1), metrics

        return Method(init, step, mix)


def toy_data(n=41):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (n + 5, 6, 5, 1), np.uint8), np.arange(n + 5) % 2
    return datasets.from_arrays(images[:n], labels[:n], images[n:], labels[n:])


def run(folder=None, **options):
    options = {"progress": False, "chunk": 2, "workdir": folder} | options
    return search(ToySpace(), toy_data(), ToyPreset(), **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("search"))


def test_result_and_files_agree(whole):
    folder = whole.workdir
    assert [line["epoch"] for line in whole.history] == [1, 2, 3]
    assert {"train_loss", "valid_loss", "relative_entropy/cell"} <= set(whole.history[0])
    assert whole.trajectory["alphas/cell"].shape == (4, 2, 3)
    assert not np.array_equal(*whole.trajectory["alphas/cell"][[0, 1]])
    np.testing.assert_array_equal(whole.alphas["cell"], whole.trajectory["alphas/cell"][-1])
    np.testing.assert_allclose(whole.mix["cell"], jax.nn.softmax(whole.alphas["cell"]), rtol=1e-6)
    assert whole.genotype == ToySpace().discretize(whole.mix)
    assert Genotype.load(folder / "genotype.json") == whole.genotype
    with np.load(folder / "alphas.npz") as stored:
        assert stored["alphas/cell"].tobytes() == whole.trajectory["alphas/cell"].tobytes()
        assert stored["mix/cell"].shape == (4, 2, 3)
        names = stored["rows/cell"].tolist(), stored["options/cell"].tolist()
        assert tuple(map(tuple, names)) == ToySpace().decisions["cell"][1:]
        assert stored["part/cell"] == "cell" and stored["chooses/cell"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == whole.history
    report = json.loads((folder / "report.json").read_text())
    assert report["report"] == whole.report
    assert json.loads((folder / "config.json").read_text())["search"]["epochs"] == 3


def test_what_was_found_can_be_opened_without_space_and_data(whole):
    opened = dnas.open(whole.workdir)
    assert opened.finished and opened.genotype == whole.genotype
    assert opened.history == whole.history and opened.report == whole.report
    assert opened.decisions == dict(ToySpace().decisions)
    for name in ("alphas", "mix", "trajectory"):
        stored, known = getattr(opened, name), getattr(whole, name)
        assert stored.keys() == known.keys()
        assert all(stored[key].tobytes() == known[key].tobytes() for key in known)


def test_without_a_directory_it_is_the_same_search_and_writes_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.workdir is None and result.genotype == whole.genotype
    assert result.alphas["cell"].tobytes() == whole.alphas["cell"].tobytes()
    assert list(tmp_path.iterdir()) == []


def test_streamed_images_give_the_same_search(whole, monkeypatch):
    assert isinstance(datasets.make_feed([toy_data().train], 4, jax.random.key(0)), DeviceFeed)
    streaming = functools.partial(datasets.make_feed, device_budget=0)
    monkeypatch.setattr(datasets.batched, "make_feed", streaming)
    result = run()
    for name, array in whole.trajectory.items():
        np.testing.assert_array_equal(array, result.trajectory[name])


def test_another_seed_is_another_search(whole):
    assert run(seed=1, epochs=1).history[0]["train_loss"] != whole.history[0]["train_loss"]


def test_the_test_split_is_read_for_its_hash_alone():
    class Hashed(datasets.dataset.ArraySource):
        def read(self, indices):
            raise AssertionError("the test split was read")

        load = column = read

    data = toy_data()
    test = datasets.Split.all(Hashed(data.test.arrays))
    data = dataclasses.replace(data, test=test)
    search(ToySpace(), data, ToyPreset(), epochs=1, progress=False)


def test_a_directory_of_another_search_is_refused(whole):
    with pytest.raises(workdir.ContradictionError, match=r"search\.epochs: 3 there, 2 here"):
        run(whole.workdir, epochs=2)
    with pytest.raises(workdir.ContradictionError, match=r"seed: 0 there, 1 here"):
        run(whole.workdir, seed=1)
    assert run(whole.workdir).history == whole.history


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs=1.5: expected a whole number of at least 1"),
        ({"batch_size": True}, "batch_size=True: expected a whole number of at least 1"),
        ({"train_limit": 0}, "train_limit=0: expected a whole number of at least 1"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
        ({"chunk": 0}, "chunk=0: expected a whole number of at least 1"),
        ({"batch_size": 21}, "batch_size=21: expected 1 to 20, half of 41 train examples"),
        ({"batch_size": 4, "train_limit": 7}, "batch_size=4: expected 1 to 3"),
        ({"parallel": "tpu"}, "parallel='tpu'"),
        ({"augment": datasets.Augment(crop_padding=5)}, "crop_padding must be smaller"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_settings_hidden_in_functions_are_described():
    def make(temperature):
        return relax.gumbel_softmax(lambda step: temperature * step)

    texts = [
        json.dumps(
            describe(
                *(ToySpace(), toy_data(), ToyPreset(relaxation=make(t)), 0),
                *(datasets.Augment(), "none"),
            )
        )
        for t in (1.0, 1.0, 2.0)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_what_the_user_wrote_is_noted_and_what_it_stands_for_is_compared(tmp_path):
    run(tmp_path, config={"seed": None, "betas": (0.5, 0.9)}, epochs=1)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["given"] == {"seed": None, "betas": [0.5, 0.9]} and config["seed"] == 0
    run(tmp_path, config={"seed": 0}, epochs=1)
    run(tmp_path, epochs=1)
    with pytest.raises(workdir.ContradictionError, match=r"examples: 41 there, 33 here"):
        search(ToySpace(), toy_data(33), ToyPreset(), workdir=tmp_path, epochs=1)


@pytest.mark.parametrize("kept", [0, 2])
def test_lost_alphas_are_those_of_the_checkpoint(tmp_path, whole, kept):
    shutil.copytree(whole.workdir, tmp_path / "run")
    path = tmp_path / "run" / "alphas.npz"
    path.unlink()
    if kept:
        np.savez(path, **{name: x[:kept] for name, x in whole.trajectory.items()})
    with pytest.warns(UserWarning, match=r"alphas\.npz lacks epochs of alphas/cell, mix/cell"):
        result = run(tmp_path / "run")
    assert result.genotype == whole.genotype and result.report == whole.report
    with np.load(path) as stored:
        for name, array in whole.trajectory.items():
            assert result.trajectory[name].tobytes() == stored[name].tobytes() == array.tobytes()


class Unreadable:
    """A table that fails when it is asked."""

    def check(self, space, data_name):
        assert space.name == "toy"

    def look_up(self, genotype, data_name):
        raise RuntimeError("looked up")


def test_the_report_is_written_before_the_table_is_asked(tmp_path):
    with pytest.raises(RuntimeError, match="looked up"):
        run(tmp_path, epochs=1, table=Unreadable())
    assert "cell" in json.loads((tmp_path / "report.json").read_text())["report"]


def test_killed_between_two_epochs_it_ends_as_the_uninterrupted_search(tmp_path, whole):
    path = pathlib.Path(__file__).resolve()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{path.parents[2]}:{path.parents[1]}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(path), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    with np.load(tmp_path / "alphas.npz") as stored:
        assert len(stored["alphas/cell"]) == 3  # ahead of the checkpoint, as the kill fell between
    opened = dnas.open(tmp_path)
    assert not opened.finished and opened.history == whole.history[:1]
    assert opened.alphas["cell"].tobytes() == whole.trajectory["alphas/cell"][2].tobytes()
    result = run(tmp_path)
    for name, array in whole.trajectory.items():
        assert result.trajectory[name].tobytes() == array.tobytes()
    for name in ("metrics.jsonl", "genotype.json", "report.json"):
        assert (tmp_path / name).read_bytes() == (whole.workdir / name).read_bytes()


def test_on_two_devices_it_resumes_bit_for_bit_too(tmp_path):
    path = pathlib.Path(__file__).resolve()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{path.parents[2]}:{path.parents[1]}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, str(path), str(tmp_path), "two devices"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def two_devices(folder):
    """Stops in the middle of an epoch, resumes, and compares with a run that did not stop."""
    assert jax.local_device_count() == 2
    whole = run(parallel="pmap")
    original = datasets.DeviceFeed.chunks

    def chunks(self, start, stop, size):
        for number, chunk in enumerate(original(self, start, stop, size)):
            if (start, number) == (5, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            yield chunk

    datasets.DeviceFeed.chunks = chunks
    with pytest.raises(loop.Stopped) as stopped:
        run(folder, parallel="pmap")
    assert stopped.value.step == 9
    datasets.DeviceFeed.chunks = original
    resumed = run(folder, parallel="pmap")
    assert resumed.history == whole.history
    assert resumed.alphas["cell"].tobytes() == whole.alphas["cell"].tobytes()
    with pytest.raises(workdir.ContradictionError, match=r'parallel\.kind: "pmap" there, "none"'):
        run(folder)
    with pytest.raises(ValueError, match="batch_size=3 does not divide among 2 devices"):
        run(parallel="pmap", batch_size=3)


def main(folder):
    """Kills itself after the second epoch's result files, before its checkpoint."""

    def append(self, line):
        if line["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, line)

    original = workdir.Workdir.append_metrics
    workdir.Workdir.append_metrics = append
    run(folder)


if __name__ == "__main__":
    (two_devices if "two devices" in sys.argv else main)(sys.argv[1])
