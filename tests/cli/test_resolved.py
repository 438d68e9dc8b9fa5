"""What a command's settings stand for is what its directory is compared with."""

import dataclasses
import json

import pytest
from test_build import NUMBERS, load

import dnas
from dnas import presets
from dnas.cli import build
from dnas.gradient.regularize import beta_decay
from dnas.jobs import stages
from dnas.parts import linear, part
from dnas.runtime.workdir import ContradictionError, open_workdir
from dnas.training import published, trainer


class Begun(Exception):
    """A search got past all checks."""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a search as a command does, up to its first step; returns its config.json."""

    def begin(setting, preset, space, epochs, files):
        files.write_lines("metrics.jsonl", [])
        raise Begun

    monkeypatch.setattr(stages, "run", begin)

    def run(**changes):
        config = load(**changes)
        with pytest.raises(Begun):
            dnas.search(
                build.make_space(config),
                build.make_data(config),
                build.make_preset(config),
                seed=config["seed"],
                augment=build.make_augment(config),
                workdir=tmp_path,
                config=config,
            )
        assert not (tmp_path / ".lock").exists()  # given back, whatever ended the search
        return json.loads((tmp_path / "config.json").read_text())

    return run


def test_a_presets_numbers_are_written_and_their_change_is_refused_by_name(command, monkeypatch):
    stored = command()
    for name in NUMBERS:
        value = getattr(build.make_preset(load()), name)
        assert stored["search"][name] == (list(value) if isinstance(value, tuple) else value)
    assert "learning_rate" not in stored["given"]["search"]
    command(search__learning_rate=0.025)  # which is the preset's: the same run

    def changed(**changes):
        return presets.darts(**{"learning_rate": 0.5, "alpha_betas": (0.5, 0.9), **changes})

    monkeypatch.setitem(presets.PRESETS, "darts", changed)
    with pytest.raises(ContradictionError) as caught:
        command()
    assert "search.learning_rate: 0.025 there, 0.5 here" in str(caught.value)
    assert "search.alpha_betas: [0.5, 0.999] there, [0.5, 0.9] here" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 4


def test_settings_of_a_presets_parts_are_among_them(command, monkeypatch):
    stored = command(preset="beta_darts")
    weight = {"name": "linear", "first": 0.0, "last": 50.0}
    assert stored["search"]["regularizers"] == [{"name": "beta_decay", "weight": weight}]

    def changed(**changes):
        return published(regularizers=(part(beta_decay, weight=linear(0.0, 25.0)),), **changes)

    published = presets.PRESETS["beta_darts"]
    monkeypatch.setitem(presets.PRESETS, "beta_darts", changed)
    with pytest.raises(ContradictionError) as caught:
        command(preset="beta_darts")
    assert "search.regularizers.0.weight.last: 50.0 there, 25.0 here" in str(caught.value)


def test_one_setting_of_a_selection_is_named(command):
    command(preset="dnas")
    with pytest.raises(ContradictionError) as caught:
        command(preset="dnas", search__selection={"start": {"start": {"limit": 1}}})
    line = "search.selection.start.start.limit: 2 there, 1 here"
    assert str(caught.value).splitlines()[1].strip() == line
    assert len(str(caught.value).splitlines()) == 3


def test_a_recipes_numbers_are_written_and_their_change_is_refused_by_name(tmp_path, monkeypatch):
    space, data = build.make_space(load()), build.make_data(load())
    genotype = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")

    def write():
        config = trainer.describe(space, genotype, data, build.make_recipe(load()).recipe, "none")
        with open_workdir(tmp_path, config) as files:
            files.write_lines("metrics.jsonl", [])
            return files.read_json("config.json")

    assert None not in write()["train"].values() and write()["train"]["momentum"] == 0.9
    settings = published.PUBLISHED["nas_bench_201"]
    changed = dataclasses.replace(settings.recipe, momentum=0.8)
    monkeypatch.setitem(published.PUBLISHED, "nas_bench_201", settings._replace(recipe=changed))
    with pytest.raises(ContradictionError, match=r"train\.momentum: 0\.9 there, 0\.8 here"):
        write()
