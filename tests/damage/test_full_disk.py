"""Disks that fill up while a run writes: one line, and with more space the same result."""

import shutil
import subprocess
import threading

import pytest
from tiny_runs import run_search

from dnas.runtime.checkpoints import CheckpointError
from dnas.runtime.workdir import WorkdirError


def mount(*options):
    command = shutil.which("mount")
    if command is None:
        pytest.skip("there is no mount command")
    done = subprocess.run([command, *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this process may not mount a tmpfs: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """Makes a disk of a size; it is gone after the test."""
    path = tmp_path / "disk"
    path.mkdir()

    def make(size):
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
        return path

    yield make
    subprocess.run(["umount", "-l", str(path)], capture_output=True)


@pytest.mark.parametrize("size", ["60k", "100k", "140k", "200k", "260k", "340k", "500k", "1m"])
def test_a_full_disk_is_said_in_a_line_and_loses_nothing(
    originals, disk, monkeypatch, caplog, size
):
    expected = originals["search"][2]
    died = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_value))
    path = disk(size)
    try:
        found = run_search(path / "run")
    except (WorkdirError, CheckpointError) as error:
        found, text = None, str(error)
        assert str(path / "run") in text and "No space left on device" in text, text
        assert "\n" not in text and "the same command" in text
        assert not list((path / "run").rglob("*tmp*"))  # what is half written only takes space
    assert found in (None, expected) and died == []
    assert not [record for record in caplog.records if record.name == "absl"]
    mount("-o", "remount,size=20m", path)
    assert run_search(path / "run") == expected


def test_a_disk_that_became_read_only_is_said_in_a_line(originals, disk):
    path = disk("20m")
    shutil.copytree(originals["half"][1], path / "run")
    mount("-o", "remount,ro", path)
    with pytest.raises(WorkdirError, match=r"run.* cannot be written \(Read-only") as caught:
        run_search(path / "run")
    assert "\n" not in str(caught.value)
    mount("-o", "remount,rw", path)
    assert run_search(path / "run") == originals["search"][2]
