"""Every preset from its beginning to a genotype, in the smallest of spaces."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from small_searches import EPOCHS, SPACE, facts, recorded, run, space_of, tiny_data

from dnas import presets
from dnas.jobs.search import search
from dnas.presets import parts
from dnas.runtime import loop, workdir
from dnas.spaces import nas_bench_201

# With state or stages beyond what DARTS has, which a resumed run must restore.
RESUMED = ("oles", "drnas")


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
    assert_as_recorded(facts(result), recorded(name))
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


def assert_as_recorded(found, golden):
    """The same up to the rounding of other processors."""
    assert found["genotype"] == golden["genotype"]
    for now, then in zip(found["history"], golden["history"], strict=True):
        assert now == pytest.approx(then, rel=1e-2, abs=1e-3)
    for key, table in golden["alphas"].items():
        np.testing.assert_allclose(found["alphas"][key], table, atol=5e-3, err_msg=key)


@pytest.mark.slow
def test_a_price_lowers_the_expected_cost():
    space = dataclasses.replace(SPACE, operations=("skip_connect", "nor_conv_1x1"))

    price = presets.part(parts.parameters, weight=50.0)
    preset = presets.darts(alpha_learning_rate=0.05, regularizers=(price,))
    options = {"epochs": EPOCHS, "batch_size": 4, "progress": False}
    result = search(space, tiny_data(), preset, **options)
    priced = [line["cost"] for line in result.history]
    assert priced[0] > priced[1] > priced[2] and priced[2] < 0.4
    assert set(result.genotype["cell"].values()) == {"skip_connect"}
