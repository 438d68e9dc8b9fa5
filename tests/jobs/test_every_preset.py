"""Every preset from its beginning to a genotype, in the smallest of spaces."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from dnas import costs, presets, regularize, selection
from dnas import data as datasets
from dnas.jobs import loop, workdir
from dnas.jobs.search import search
from dnas.space import Task
from dnas.spaces import nas_bench_201

SPACE = nas_bench_201.NASBench201(
    channels=4, cells=1, stages=1, nodes=3, operations=("none", "skip_connect", "avg_pool_3x3")
)
EPOCHS = 3  # P-DARTS has three stages
# What is at the end costs time on top of the epochs, and has tests of its own.
SHORT = {
    "darts_pt": {"selection": selection.perturbation(0.5)},
    "random_weight_sharing": {"selection": selection.best_of_samples(4)},
    "dnas": {"selection": selection.short_trainings(epochs=0.5, count=4, longer=1)},
}
# With state or stages beyond what DARTS has, which a resumed run must restore.
RESUMED = ("oles", "drnas")


def tiny_data():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 4, 4, 1), np.uint8), np.arange(32) % 3
    return datasets.from_arrays(images, labels, images[:3], labels[:3])


def space_of(name):
    changes = {
        "lambda_darts": {"cells": 2},  # which align
        "oles": {"operations": ("none", "skip_connect", "nor_conv_1x1")},  # with weights to freeze
    }
    return dataclasses.replace(SPACE, **changes.get(name, {}))


def run(name, folder):
    preset = presets.PRESETS[name](alpha_learning_rate=0.05, **SHORT.get(name, {}))
    options = {"epochs": EPOCHS, "batch_size": 4, "progress": False, "workdir": folder}
    return search(space_of(name), tiny_data(), preset, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_finds_an_architecture_and_compiles_once(name, tmp_path, monkeypatch):
    traces = {}

    def counted(net, *args, _call=nas_bench_201.Supernet.__call__, **kwargs):
        traces["now"] = traces.get("now", 0) + 1
        return _call(net, *args, **kwargs)

    def append(self, line, _append=workdir.Workdir.append_metrics):
        _append(self, line)
        traces.setdefault(self.path.name, []).append(traces["now"])

    monkeypatch.setattr(nas_bench_201.Supernet, "__call__", counted)
    monkeypatch.setattr(workdir.Workdir, "append_metrics", append)
    result = run(name, tmp_path / "whole")
    space_of(name).validate(result.genotype)
    assert all(np.isfinite(list(line.values())).all() for line in result.history)
    epochs = [line["epoch"] for line in result.history]
    assert epochs == list(range(1, EPOCHS + 1)) or name == "darts_plus"
    traces.pop("now")
    # The first epoch of a stage traces all there is; later ones find it compiled.
    assert all(len(set(counts)) == 1 for counts in traces.values())
    moved = [
        np.abs(table[-1] - table[0]).max()
        for key, table in result.trajectory.items()
        if key.startswith("alphas/") and table[0].shape == table[-1].shape
    ]
    assert (max(moved) > 0.01) == (name != "random_weight_sharing")
    if name not in RESUMED:
        return

    def stopping(self, line):
        append(self, line)
        if line["epoch"] == 1 and "stage1" not in str(self.path):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(workdir.Workdir, "append_metrics", stopping)
        with pytest.raises(loop.Stopped):
            run(name, tmp_path / "resumed")
    resumed = run(name, tmp_path / "resumed")
    assert resumed.history == result.history and resumed.genotype == result.genotype
    for key, array in result.trajectory.items():
        assert array.tobytes() == resumed.trajectory[key].tobytes()


@pytest.mark.slow
def test_a_price_lowers_the_expected_cost():
    space = dataclasses.replace(SPACE, operations=("skip_connect", "nor_conv_1x1"))

    def price(steps, space):
        return (regularize.expected_cost(costs.parameters(space, Task((4, 4, 1), 3)), 50.0),)

    preset = presets.darts(alpha_learning_rate=0.05, regularizers=price)
    options = {"epochs": EPOCHS, "batch_size": 4, "progress": False}
    result = search(space, tiny_data(), preset, **options)
    priced = [line["cost"] for line in result.history]
    assert priced[0] > priced[1] > priced[2] and priced[2] < 0.4
    assert set(result.genotype["cell"].values()) == {"skip_connect"}
