import json
import os
import sys

import numpy as np
import pytest

from dnas.jobs import workdir

CONFIG = {"seed": 0, "space": {"name": "darts", "cells": 8}, "train": {"seeds": (0, 1)}}


def test_a_contradiction_is_refused_with_every_difference(tmp_path):
    workdir.open_workdir(tmp_path / "run", CONFIG).write_lines("metrics.jsonl", [])
    workdir.open_workdir(tmp_path / "run", CONFIG)  # the same again resumes
    other = {"seed": 0, "space": {"name": "darts", "cells": 5}, "lr": 0.1}
    with pytest.raises(workdir.ContradictionError) as caught:
        workdir.open_workdir(tmp_path / "run", other)
    message = str(caught.value)
    assert "space.cells: 8 there, 5 here" in message
    assert "lr: nothing there, 0.1 here" in message
    assert "train.seeds: [0, 1] there, nothing here" in message
    assert "seed:" not in message and "space.name" not in message
    assert json.loads((tmp_path / "run" / "config.json").read_text())["space"]["cells"] == 8


def test_a_run_that_wrote_nothing_but_its_settings_may_begin_with_others(tmp_path):
    workdir.open_workdir(tmp_path, CONFIG)
    workdir.open_workdir(tmp_path, {**CONFIG, "seed": 1})
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_free_settings_and_sections_may_differ(tmp_path):
    workdir.open_workdir(tmp_path, CONFIG).write_lines("metrics.jsonl", [])
    other = {**CONFIG, "train": {"seeds": (5,)}, "progress": False}
    workdir.open_workdir(tmp_path, other, free=("train", "progress"))
    with pytest.raises(workdir.ContradictionError, match=r"train\.seeds"):
        workdir.open_workdir(tmp_path, CONFIG, free=("trai", "progress"))


def test_true_is_not_one_and_one_is_not_one_point_zero():
    assert workdir.differences({"a": True}, {"a": 1}) == ["a: true there, 1 here"]
    assert workdir.differences({"a": 1}, {"a": 1.0}) == ["a: 1 there, 1.0 here"]


def test_settings_that_both_have_come_first():
    lines = workdir.differences({"b": 1, "d": 4}, {"a": 1, "b": 2, "c": 3})
    assert [line.split(":")[0] for line in lines] == ["b", "a", "c", "d"]


def test_places_that_cannot_be_a_workdir_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        workdir.open_workdir(tmp_path / "file", CONFIG)
    with pytest.raises(workdir.WorkdirError, match=r"workdir: .*file/below cannot be written"):
        workdir.open_workdir(tmp_path / "file" / "below", CONFIG)
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    with pytest.raises(workdir.WorkdirError, match=r"other holds checkpoints but no config\.json"):
        workdir.open_workdir(tmp_path / "other", CONFIG)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["checkpoints"]


def test_a_run_killed_while_it_wrote_its_first_file_starts_again(tmp_path):
    (tmp_path / ".config.json.7.tmp").write_text("{")
    assert workdir.open_workdir(tmp_path, CONFIG).read_json("config.json")["seed"] == 0


@pytest.mark.parametrize("text", [b'{"seed": 0,', b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(workdir.WorkdirError, match=r"config\.json is damaged .* Choose another"):
        workdir.open_workdir(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == text


def test_files_are_replaced_in_one_piece(tmp_path, monkeypatch):
    files = workdir.open_workdir(tmp_path, {})
    files.write_text("table.txt", "old")

    def fail(*_):
        raise OSError("killed")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="killed"):
        files.write_text("table.txt", "new")
    assert (tmp_path / "table.txt").read_text() == "old"


def test_arrays_and_json_come_back(tmp_path):
    files = workdir.open_workdir(tmp_path, {})
    assert files.read_arrays("a.npz") is None and files.read_json("a.json") is None
    files.write_arrays("a.npz", {"alphas/normal": np.float32([[1 / 3]])})
    files.write_json("a.json", {"x": [1, 2]})
    assert files.read_arrays("a.npz")["alphas/normal"].tobytes() == np.float32(1 / 3).tobytes()
    assert files.read_json("a.json") == {"x": [1, 2]}


def test_metrics_keep_the_finished_epochs_only(tmp_path):
    pytest.importorskip("tensorboardX")
    files = workdir.open_workdir(tmp_path, {})
    for epoch in (1, 2, 3):
        files.append_metrics({"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch})
    files.close()
    assert list(tmp_path.glob("events.out.tfevents*"))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "st')  # killed while it wrote
    assert [line["epoch"] for line in files.metrics(2)] == [1, 2]
    files.append_metrics({"epoch": 3, "step": 30, "loss": 0.5})
    files.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 0.5)]


def test_without_tensorboard_it_warns_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    files = workdir.open_workdir(tmp_path, {})
    with pytest.warns(UserWarning, match="no TensorBoard events") as caught:
        files.append_metrics({"epoch": 1, "step": 1, "loss": 1.0})
        files.append_metrics({"epoch": 2, "step": 2, "loss": 1.0})
    assert len(caught) == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_no_path_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = workdir.open_workdir(None, CONFIG)
    files.write_text("a.txt", "x")
    files.append_metrics({"epoch": 1, "step": 1})
    assert files.metrics(1) == [] and files.read_json("config.json") is None
    assert files.subdirectory("b", {}).path is None
    assert list(tmp_path.iterdir()) == []
