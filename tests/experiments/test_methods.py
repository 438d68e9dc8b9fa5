"""The comparison of methods: budgets, data, scores and the report, without a search."""

import json

import numpy as np
import pytest

from dnas import data
from dnas.genotype import Genotype
from dnas.presets import PRESETS
from experiments.benchmarks import methods, methods_report
from experiments.benchmarks.methods_settings import (
    CONTROLS,
    SETTINGS,
    idle_shares,
)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_preset_has_the_same_budget(name):
    setting = SETTINGS[name]
    for preset in PRESETS:
        found, published = setting.preset(preset), PRESETS[preset]()
        assert (found.epochs, found.batch_size) == (setting.epochs, setting.batch_size)
        np.testing.assert_allclose(
            found.learning_rate / found.batch_size, published.learning_rate / published.batch_size
        )
    factor = setting.preset("darts").alpha_learning_rate / PRESETS["darts"]().alpha_learning_rate
    assert factor == pytest.approx(setting.alpha_factor)
    assert json.loads(json.dumps(setting.describe())) == setting.describe()


@pytest.mark.parametrize("name", SETTINGS)
def test_controls_belong_to_the_space(name):
    setting = SETTINGS[name]
    for control in CONTROLS:
        setting.space.validate(setting.control(control, 0))
    largest = setting.control("largest", 0)
    heavy = {"nor_conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"}
    parts = ("cell",) if name == "nb201" else ("normal",)
    assert all(set(largest[part].values()) <= heavy for part in parts)


def test_idle_shares():
    choices = {"normal": {"0->2": "noise", "1->2": "skip_connect"}, "reduce": {"0->2": "none"}}
    shares = idle_shares(Genotype.create("darts", choices))
    assert shares == {"idle/normal": 1.0, "idle/reduce": 0.0}


def test_results_of_another_budget_are_refused(tmp_path):
    path, budget = tmp_path / "a" / "s1.jsonl", {"epochs": 2, "images": 3}
    assert methods.stored(path, budget) == set()
    path.parent.mkdir()
    path.touch()  # as another process that has just begun
    assert methods.stored(path, budget) == set()
    for seed in (0, 1):
        methods.append(path, budget, {"preset": "darts", "seed": seed})
    assert methods.stored(path, budget) == {("darts", 0), ("darts", 1)}
    assert len(path.read_text().splitlines()) == 3  # the budget, and two results
    with pytest.raises(ValueError, match=r"another budget \(\['images'\]\)"):
        methods.stored(path, {"epochs": 2, "images": 4})


def test_idle_edges_by_epoch():
    rows, options = SETTINGS["nb201"].space.decisions["cell"]
    mix = np.full((3, len(rows), len(options)), 0.1)
    mix[:, :, options.index("nor_conv_3x3")] = 0.2
    mix[1, :2, options.index("skip_connect")] = 0.3
    mix[2, :, options.index("none")] = 0.3  # no operation, and not idle
    assert SETTINGS["nb201"].idle_by_epoch({"mix/cell": mix}) == [0.0, 0.333, 0.0]
    assert SETTINGS["nb201"].idle_by_epoch({"mix/cell.0->1": mix}) is None


def test_report(tmp_path):
    accuracies = {
        "darts": (54.0, 56.0),
        "dnas": (94.0, 94.2),
        "random": (87.0,),
        "largest": (93.76,),
    }
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            scores = dict.fromkeys(methods_report._TABLE_COLUMNS.values(), 1.0) | {"cifar10": value}
            result = {"preset": method, "seed": seed, "seconds": 60.0 + seed, "scores": scores}
            methods.append(tmp_path / "nb201.jsonl", {}, result)
    scores = dict.fromkeys(methods_report._TRAINED_COLUMNS.values(), 2.0)
    result = {"preset": "oles", "seed": 0, "seconds": 1.0, "scores": scores}
    methods.append(tmp_path / "s2.jsonl", {}, result)
    methods_report.write(tmp_path, tmp_path / "report.md", None)
    text = (tmp_path / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    names = [line.split(" | ")[0][2:] for line in lines]
    assert names == ["method", "dnas", "largest", "random", "darts", "method", "oles"]
    assert "| darts | 2 | 55.00 ± 1.41 |" in text and "| 60 |" in text
    assert "| random | 1 | 87.00 |" in text  # one seed has no deviation
    assert (tmp_path / "report.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no results"):
        methods_report.write(tmp_path / "s2", tmp_path / "report.md", None)


def test_data_follow_the_seed(shared_data):
    setting = SETTINGS["s1"]
    first, again, other = (setting.data(str(shared_data / "tfds"), seed) for seed in (0, 0, 1))
    assert isinstance(first, data.Dataset) and first.image_shape == (16, 16, 3)
    assert (len(first.train), len(first.test)) == (setting.images, setting.test_images)
    assert np.array_equal(first.train.indices, again.train.indices)
    assert not np.array_equal(first.train.indices, other.train.indices)
    assert np.array_equal(first.test.indices, other.test.indices)
