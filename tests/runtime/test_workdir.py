import errno
import json
import math
import os
import re
import resource
import shutil
import sys
import warnings

import numpy as np
import pytest

from dnas.runtime import settings, workdir

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
    assert not (tmp_path / ".config.json.7.tmp").exists()


DAMAGED = [
    b'{"seed": 0,',
    b"[1, 2]",
    b"\xff\xfe\x00",
    b'{"schema": 4}',
    b'{"schema": 4, "versions": [7]}',
]


@pytest.mark.parametrize("text", DAMAGED)
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
    with pytest.raises(workdir.WorkdirError, match=r"table\.txt cannot be written \(killed\)"):
        files.write_text("table.txt", "new")
    assert (tmp_path / "table.txt").read_text() == "old"
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_arrays_and_json_come_back(tmp_path):
    files = workdir.open_workdir(tmp_path, {})
    assert files.read_arrays("a.npz") is None and files.read_json("a.json") is None
    files.write_arrays("a.npz", {"alphas/normal": np.float32([[1 / 3]])})
    files.write_json("a.json", {"x": [1, 2]})
    assert files.read_arrays("a.npz")["alphas/normal"].tobytes() == np.float32(1 / 3).tobytes()
    assert files.read_json("a.json") == {"x": [1, 2]}


def test_metrics_are_those_that_a_checkpoint_knows(tmp_path):
    pytest.importorskip("tensorboardX")
    files, path = workdir.open_workdir(tmp_path, {}), tmp_path / "metrics.jsonl"
    history = [{"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch} for epoch in (1, 2, 3)]
    for line in history:
        files.append_metrics(line)
    files.close()
    assert list(tmp_path.glob("events.out.tfevents*"))
    whole = path.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_text(whole + '{"epoch": 4, "st')  # killed while it wrote
        files.rewind_metrics(history[:2])
    assert list(map(json.loads, path.read_text().splitlines())) == history[:2]
    files.append_metrics(history[2])
    files.close()
    assert path.read_text() == whole


DEEP = "[" * 10**5
LINE = '{"epoch": 2, "step": 20, "loss": 0.5}\n'


@pytest.mark.parametrize(
    "other",
    ["", LINE * 2, "3\n", "{}\n", '{"epoch": "2"}\n', DEEP, LINE[:-9], LINE.replace("5", "6")],
)
def test_damaged_metrics_are_written_again(tmp_path, other):
    files, path = workdir.open_workdir(tmp_path, {}), tmp_path / "metrics.jsonl"
    history = [{"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch} for epoch in (1, 2, 3)]
    files.write_lines("metrics.jsonl", history)
    whole = path.read_text()
    path.write_text(whole.replace(LINE, other))
    with pytest.warns(UserWarning, match=r"metrics\.jsonl lacks epochs, or has others"):
        files.rewind_metrics(history)
    assert path.read_text() == whole


@pytest.mark.parametrize(
    "data", [b"", b"3", b"{", b"[" * 10**5, b"\xff\xfe\x00", b'{"x": 2, "checksum": 5}']
)
def test_what_was_changed_is_named_in_a_line(tmp_path, data):
    files = workdir.open_workdir(tmp_path, {})
    files.write_sealed("a.json", {"x": [1, 1 / 3, math.nan]})
    assert str(files.read_sealed("a.json")) == str({"x": [1, 1 / 3, math.nan]})
    (tmp_path / "a.json").write_bytes(data)
    (tmp_path / "a.npz").write_bytes(data)
    for read in (lambda: files.read_sealed("a.json"), lambda: files.read_arrays("a.npz")):
        with pytest.raises(workdir.DamagedError, match=r"a\.\w+ is damaged \(.+\)") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_arrays_are_never_unpickled(tmp_path):
    files = workdir.open_workdir(tmp_path, {})
    np.savez(tmp_path / "a.npz", x=np.array([print], object))
    with pytest.raises(workdir.DamagedError, match="allow_pickle"):
        files.read_arrays("a.npz")


def test_events_that_cannot_be_closed_keep_no_lock(tmp_path, monkeypatch):
    writer = pytest.importorskip("tensorboardX").SummaryWriter
    close = writer.close

    def fail(self):
        close(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "close", fail)
    with (
        pytest.warns(UserWarning, match="events may lack their end"),
        workdir.open_workdir(tmp_path, CONFIG) as files,
    ):
        files.append_metrics({"epoch": 1, "step": 7, "train_loss": 2.5})
    assert not (tmp_path / ".lock").exists()


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
    files.rewind_metrics([{"epoch": 1}])
    assert files.read_sealed_lines("a.jsonl") == [] and files.read_json("config.json") is None
    assert files.subdirectory("b", {}).path is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_somebody_planted_is_followed(tmp_path):
    target = tmp_path / "of somebody"
    target.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".config.json.{os.getpid()}.tmp").symlink_to(target)
    with workdir.open_workdir(tmp_path / "run", CONFIG) as files:
        (tmp_path / "run" / "table.txt").symlink_to(target)
        (tmp_path / "run" / "metrics.jsonl").symlink_to(target)
        files.write_text("table.txt", "new")
        with pytest.raises(workdir.WorkdirError, match=r"metrics\.jsonl cannot .* it is a link"):
            files.append_line("metrics.jsonl", {"epoch": 1})
    assert target.read_text() == "precious"
    assert (tmp_path / "run" / "table.txt").read_text() == "new"
    assert not list(
        (tmp_path / "run").glob(".*")
    )  # the temporary one is cleared, the lock given back


def test_directories_that_lead_elsewhere_are_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with workdir.open_workdir(tmp_path / "run", CONFIG) as files:
        for name in ("checkpoints", "stage1"):
            (files.path / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(workdir.WorkdirError, match=r"checkpoints is a link to .*elsewhere"):
            files.folder("checkpoints")
        with pytest.raises(workdir.WorkdirError, match=r"stage1 is a link to .*elsewhere"):
            files.subdirectory("stage1", {})
        assert files.folder("selection") == files.path / "selection"
    (tmp_path / "link").symlink_to(tmp_path / "run")  # the whole directory may be one
    with workdir.open_workdir(tmp_path / "link", CONFIG) as files:
        assert files.path == tmp_path / "run"


@pytest.mark.parametrize("how", ["removed", "moved", "made anew"])
def test_a_directory_that_goes_away_ends_the_run(tmp_path, how):
    with workdir.open_workdir(tmp_path / "run", CONFIG) as files:
        os.rename(tmp_path / "run", tmp_path / "moved")
        if how == "removed":
            shutil.rmtree(tmp_path / "moved")
        if how == "made anew":
            (tmp_path / "run").mkdir()
        for write in (files.write_json, files.append_line):
            with pytest.raises(workdir.WorkdirError, match=rf"{tmp_path}/run was removed or moved"):
                write("a.json", {})
        with pytest.raises(workdir.WorkdirError, match="removed or moved"):
            files.folder("checkpoints")
    assert not list((tmp_path / "run").glob("*"))
    if how == "moved":
        os.rename(tmp_path / "moved", tmp_path / "run")
        with workdir.open_workdir(tmp_path / "run", CONFIG) as files:  # back: it goes on
            files.write_json("a.json", {})


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    with workdir.open_workdir(tmp_path, CONFIG) as files:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(workdir.WorkdirError) as caught:
            files.write_json("report.json", {})
        monkeypatch.undo()
    assert re.fullmatch(
        r"workdir: .*/report\.json cannot be written \(No space left on device\): free some space "
        r"there\. What was written before is intact, and the same command goes on from there",
        str(caught.value),
    )


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path):
    with workdir.open_workdir(tmp_path, CONFIG) as files:
        files.append_line("metrics.jsonl", {"epoch": 1})
        before = (tmp_path / "metrics.jsonl").read_text()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
        try:
            with pytest.raises(workdir.WorkdirError, match=r"metrics\.jsonl cannot be written"):
                files.append_line("metrics.jsonl", {"epoch": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "metrics.jsonl").read_text() == before


def test_files_can_be_read_by_whom_the_mask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        workdir.open_workdir(tmp_path, CONFIG).close()
    finally:
        os.umask(before)
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o640


def test_other_versions_go_on_with_a_warning_and_are_noted(tmp_path, monkeypatch):
    def write():
        with workdir.open_workdir(tmp_path, CONFIG) as files:
            files.write_lines("metrics.jsonl", [])
            return files.read_json("config.json")["versions"]

    (first,) = write()
    assert {"dnas", "python", "jax", "jaxlib", "flax"} <= set(first)
    assert write() == [first]
    monkeypatch.setattr(settings, "versions", lambda: {**first, "jax": "99.1"})
    with pytest.warns(
        UserWarning, match=rf"rounding at least: jax {first['jax']} there, 99.1 here"
    ):
        assert write() == [first, {**first, "jax": "99.1"}]
    assert write() == [first, {**first, "jax": "99.1"}]


@pytest.mark.parametrize("schema", ["nothing", 1, 99])
def test_settings_of_another_schema_are_refused_by_name(tmp_path, schema):
    stored = CONFIG if schema == "nothing" else {"schema": schema, **CONFIG}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_workdir(tmp_path, CONFIG)  # nothing to lose
    (tmp_path / "metrics.jsonl").touch()
    shown = "null" if schema == "nothing" else schema
    with pytest.raises(workdir.ContradictionError, match=f"schema: {shown} there, 4 here; it was"):
        workdir.open_workdir(tmp_path, CONFIG)
