"""The comparison of methods: budgets, data, controls, scores, what it keeps, and the report."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from dnas import data, presets, spaces
from dnas.genotype import Genotype
from dnas.gradient import hypergrad
from dnas.gradient.hypergrad import Problem
from dnas.jobs import stages
from dnas.presets import PRESETS
from dnas.presets import preset as preset_module
from dnas.training.recipe import Recipe
from experiments.studies.methods import report, run, settings
from experiments.studies.methods.settings import (
    CONTROLS,
    METHODS,
    SETTINGS,
    digest,
    idle_shares,
)

RECORDS = pathlib.Path(run.__file__).parent / "records"


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
    # What is in the repository is of today's budgets, and can be gone on with.
    assert run.stored(RECORDS / f"{name}.jsonl", setting.describe())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_suits_both_kinds_of_settings(name, monkeypatch):
    monkeypatch.setattr(
        preset_module, "check_tables", lambda space, task: None
    )  # it traces supernets
    for setting in (SETTINGS["nb201"], SETTINGS["s1"]):
        stages.check(setting.preset(name), setting.space, setting.epochs, setting.task)


@pytest.mark.parametrize("name", SETTINGS)
def test_controls_belong_to_the_space(name):
    setting = SETTINGS[name]
    for control in CONTROLS:
        setting.space.validate(setting.control(control, 0))
    largest = setting.control("largest", 0)
    heavy = {"nor_conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"}
    parts = ("cell",) if name.startswith("nb201") else ("normal",)
    assert all(set(largest[part].values()) <= heavy for part in parts)


def test_idle_shares():
    choices = {"normal": {"0->2": "noise", "1->2": "skip_connect"}, "reduce": {"0->2": "none"}}
    shares = idle_shares(Genotype.create("darts", choices))
    assert shares == {"idle/normal": 1.0, "idle/reduce": 0.0}


def test_results_of_another_budget_are_refused(tmp_path):
    path, budget = tmp_path / "a" / "s1.jsonl", {"epochs": 2, "images": 3}
    assert run.stored(path, budget) == {}
    path.parent.mkdir()
    path.touch()  # as another process that has just begun
    assert run.stored(path, budget) == {}
    for seed in (0, 1):
        run.append(path, budget, {"preset": "darts", "seed": seed, "preset_digest": "a"})
    assert run.stored(path, budget) == {("darts", 0): "a", ("darts", 1): "a"}
    assert len(path.read_text().splitlines()) == 3  # the budget, and two results
    with pytest.raises(ValueError, match=r"another budget \(\['images'\]\)"):
        run.stored(path, {"epochs": 2, "images": 4})


def test_idle_edges_by_epoch():
    _, rows, options = SETTINGS["nb201"].space.decisions["cell"]
    mix = np.full((3, len(rows), len(options)), 0.1)
    mix[:, :, options.index("nor_conv_3x3")] = 0.2
    mix[1, :2, options.index("skip_connect")] = 0.3
    mix[2, :, options.index("none")] = 0.3  # no operation, and not idle
    darts = PRESETS["darts"]()
    assert SETTINGS["nb201"].idle_by_epoch(darts, {"mix/cell": mix}) == [0.0, 0.333, 0.0]
    assert SETTINGS["nb201"].idle_by_epoch(darts, {"mix/cell.0->1": mix}) is None
    # Edge weights count where the preset has them: skips win here, but on edges that are dropped.
    setting, preset = SETTINGS["s2"], PRESETS["pc_darts"]()
    space = preset.modified(setting.space)
    tables = {n: np.full((1, len(d.rows), len(d.options)), 0.1) for n, d in space.decisions.items()}
    for part in ("normal", "reduce"):
        _, rows, options = space.decisions[part]
        for row, name in enumerate(rows):
            last = name.endswith("->5") and not name.startswith(("0", "1"))
            tables[part][0, row, options.index("skip_connect" if last else "sep_conv_3x3")] = 0.9
        tables[f"{part}.5"][0, 0, 2:] = 0.01
        tables[f"{part}.5"][0, 0, :2] = 0.48
    mix = {f"mix/{name}": table for name, table in tables.items()}
    assert setting.idle_by_epoch(preset, mix) == [0.0]


def test_controls_without_a_search_begin_where_they_say():
    setting = SETTINGS["nb201"]
    largest = setting.preset("largest_corrected")
    (cost,) = largest.made("regularizers", space=setting.space, task=setting.task)
    _, rows, options = setting.space.decisions["cell"]
    alphas = {"cell": jnp.zeros((len(rows), len(options)))}
    slopes = jax.grad(lambda mix: cost(alphas, mix, 0)[0])(alphas)["cell"]
    assert {options[int(i)] for i in slopes.argmin(-1)} == {"nor_conv_3x3"}  # alphas descend
    problem = Problem(None, lambda w, a: (jnp.zeros(()), None), None)
    for name in ("largest_corrected", "random_corrected"):
        preset = setting.preset(name)
        gradient, _ = preset.made("hypergradient")(problem, {}, None, alphas)
        assert not np.any(gradient["cell"])
        assert (preset.epochs, preset.alpha_weight_decay) == (1, 0.0)
        assert preset.selection.name == PRESETS["dnas"]().selection.name
    assert setting.preset("random_corrected").regularizers == ()
    assert setting.preset("random_weight_sharing_4x").epochs == 4 * setting.epochs


def test_pictures_of_the_search_leave_out_what_does_not_search():
    unsearched = {
        name
        for name, make in settings.METHODS.items()
        if make().hypergradient == presets.part(hypergrad.frozen)
    }
    assert unsearched == set(settings.UNSEARCHED)
    names = ("darts", "no_preset", "largest_corrected")
    curves = report.skips_by_epoch({n: [{"idle_by_epoch": [0.5]}] for n in names})
    assert curves == {"darts": [[0.5]]}


def test_digests_tell_settings_apart():
    digests = {name: digest(SETTINGS["nb201"].preset(name)) for name in METHODS}
    assert len(set(digests.values())) == len(digests)
    assert digest(SETTINGS["nb201"].preset("darts")) == digests["darts"]
    assert digest(PRESETS["darts"](alpha_learning_rate=1e-3)) != digest(PRESETS["darts"]())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds=0,-1", "--data_dir=."], "--seeds: '-1' is no whole number"),
        (["--data_dir=nowhere"], "--data_dir: nowhere has no prepared cifar10"),
        (["--presets=dart"], "--presets: 'dart' is none of random, largest"),
        (["--settings=nb201"], "--settings: nb201 needs --table"),
        (["--report=report.md"], "error: no results in"),
    ],
)
def test_wrong_flags_are_named_before_any_run(given, message, tmp_path):
    with flagsaver.flagsaver():
        flags.FLAGS(["methods", f"--out={tmp_path}", "--settings=s1", *given])
        with pytest.raises((app.UsageError, SystemExit), match=message):
            run.main(["methods"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_there_is_not_computed_again(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 8, 8, 3), np.uint8), np.arange(32) % 3
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=0.1, augment=data.Augment(crop_padding=1))
    tiny = dataclasses.replace(
        SETTINGS["s2"],
        space=spaces.NASBench201(channels=2, cells=1, stages=1, nodes=2),
        epochs=1,
        batch_size=4,
        recipe=recipe,
        network={"channels": 2, "cells": 1},
        changes={},
    )
    data_of = data.from_arrays(images, labels, images[:8], labels[:8])
    monkeypatch.setattr(settings, "SETTINGS", {"tiny": tiny})
    monkeypatch.setattr(settings.Setting, "data", lambda *args: data_of)
    names = ["random", "darts_pt"]

    def compare(seeds, presets):
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        argv = ["methods", f"--out={tmp_path}", "--settings=tiny", f"--data_dir={tmp_path}"]
        with flagsaver.flagsaver():
            flags.FLAGS(argv + [f"--seeds={seeds}", f"--presets={','.join(presets)}"])
            run.main(["methods"])
        lines = (tmp_path / "tiny.jsonl").read_text().splitlines()[1:]
        return list(map(json.loads, lines))

    first = compare("0", names)
    assert [line["preset"] for line in first] == names
    assert 0 < first[1]["selection_seconds"] <= first[1]["seconds"]
    assert 0 <= first[1]["scores"]["accuracy"] <= 100
    decided = first[1]["selection"][-1]  # two nodes, one edge
    assert f"|{decided['option']}~0|" == first[1]["genotype"]
    losses = [facts["loss"] for facts in decided["without"].values()]
    assert losses == [round(loss, 4) for loss in losses]
    capsys.readouterr()
    assert compare("0", names) == first
    assert capsys.readouterr().out == ""

    # Other settings of a preset are another run; one that fails leaves the others alone.
    changed = dataclasses.replace(tiny, changes={"darts_pt": {"alpha_learning_rate": 0.5}})
    monkeypatch.setattr(settings, "SETTINGS", {"tiny": changed})
    again = compare("0", ["darts_pt"])
    assert len(again) == 3 and again[-1]["alpha_learning_rate"] == 0.5
    monkeypatch.setattr(run, "run", lambda *args: 1 / 0)
    with pytest.raises(SystemExit, match="2 runs failed"):
        compare("0", ["gdas", "snas"])
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_report(tmp_path):
    accuracies = {
        "darts": (54.0, 56.0),
        "dnas": (94.0, 94.2),
        "random": (87.0,),
        "largest": (93.76,),
    }
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            scores = dict.fromkeys(report._TABLE_COLUMNS.values(), 1.0) | {"cifar10": value}
            result = {"preset": method, "seed": seed, "seconds": 60.0 + seed, "scores": scores}
            result["idle_by_epoch"] = [0.5, 1.0] if method == "darts" else None
            if method in METHODS:
                now = digest(SETTINGS["nb201"].preset(method))
                result["preset_digest"] = "older" if (method, seed) == ("dnas", 0) else now
            run.append(tmp_path / "nb201.jsonl", {}, result)
    scores = dict.fromkeys(report._TRAINED_COLUMNS.values(), 2.0)
    result = {"preset": "oles", "seed": 0, "seconds": 1.0, "scores": scores}
    result["preset_digest"] = digest(SETTINGS["s2"].preset("oles"))
    run.append(tmp_path / "s2.jsonl", {}, result)
    report.write(tmp_path, tmp_path / "report.md", None)
    text = (tmp_path / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    names = [line.split(" | ")[0][2:] for line in lines]
    assert names == ["method", "dnas", "largest", "random", "darts", "method", "oles"]
    assert "| darts | 2 | 1.00 ± 0.00 | 55.00 ± 1.41 |" in text and "| 60 |" in text
    assert "| random | 1 | 1.00 | 87.00 |" in text  # one seed has no deviation
    assert "| dnas | 2\\* | 1.00 ± 0.00 | 94.10 ± 0.14 |" in text
    assert text.count("\\*") == 2 and "other numbers" in text.split("## s2")[0]
    assert (tmp_path / "report-nb201.png").stat().st_size > 10_000
    assert (tmp_path / "report-nb201-skips.png").stat().st_size > 5_000
    curves = report.skips_by_epoch(report.read(tmp_path)["nb201"])
    assert curves == {"darts": [[0.5, 1.0]] * 2}
    with pytest.raises(ValueError, match="no results"):
        report.write(tmp_path / "s2", tmp_path / "report.md", None)


def test_what_failed_is_written_at_the_edge_of_the_picture():
    def picture(**accuracies):
        results = {
            method: [{"scores": {"accuracy": value}} for value in values]
            for method, values in accuracies.items()
        }
        return report.draw("s4", results, None).axes[0]

    axes = picture(random=[41.0], largest=[47.0], dnas=[45.0, 48.0], beta_darts=[9.05])
    low, high = axes.get_xlim()
    assert (low, high > 48.0) == (37.0, True)
    assert [text.get_text().split()[-1] for text in axes.texts] == ["9.1"]
    assert picture(random=[40.0], largest=[52.0], dnas=[43.0]).get_xlim()[1] > 52
    assert not picture(random=[40.0], largest=[52.0]).texts  # controls alone


def test_data_follow_the_seed(shared_data):
    setting = SETTINGS["s1"]
    first, again, other = (setting.data(str(shared_data / "tfds"), seed) for seed in (0, 0, 1))
    assert isinstance(first, data.LabelledImages) and first.image_shape == (8, 8, 3)
    assert (len(first.train), len(first.test)) == (setting.images, setting.test_images)
    assert np.array_equal(first.train.indices, again.train.indices)
    assert not np.array_equal(first.train.indices, other.train.indices)
    assert np.array_equal(first.test.indices, other.test.indices)
