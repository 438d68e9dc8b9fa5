"""Who may write to a working directory: real processes, which import no JAX."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

from dnas.runtime import lock
from dnas.runtime.errors import LockedError, WorkdirError

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Packages without their __init__, so that nothing but the lock is imported.
TAKE = f"""
import pathlib, sys, types
for name in ("dnas", "dnas.jobs"):
    module = types.ModuleType(name)
    module.__path__ = [str(pathlib.Path({str(ROOT)!r}, *name.split(".")))]
    sys.modules[name] = module
from dnas.runtime import lock
from dnas.runtime.errors import WorkdirError
sys.stdin.readline()
try:
    with lock.Lock(pathlib.Path(sys.argv[1])):
        print("taken", flush=True)
        sys.stdin.readline()
        if sys.argv[2] == "fail":
            sys.exit("failed")
except WorkdirError as error:
    print(error, flush=True)
"""


class Process:
    """A process that takes the lock, says what came of it, and waits for `end`."""

    def __init__(self, folder, how="end", go=True):
        self.child = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(folder), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if go:
            self.tell()

    def tell(self):
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write("\n")
            self.child.stdin.flush()

    def said(self):
        return self.child.stdout.readline().strip()

    def end(self, *, kill=False):
        if kill:
            self.child.kill()
        self.tell()
        self.child.communicate()
        return self.child.returncode


@pytest.fixture
def folder(tmp_path):
    return tmp_path.resolve()


def test_a_second_process_is_told_who_writes_until_it_ends(folder):
    first = Process(folder)
    assert first.said() == "taken"
    holder = json.loads((folder / lock.NAME).read_text())
    assert holder["process"] == first.child.pid
    with pytest.raises(LockedError) as caught:
        lock.Lock(folder)
    assert str(caught.value) == (
        f"workdir: {folder} is in use by process {first.child.pid} on {holder['host']!r} since "
        f"{holder['since']}; wait until it ends, stop it (kill {first.child.pid}), or choose "
        "another"
    )
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", holder["since"])
    assert first.end() == 0 and not (folder / lock.NAME).exists()
    lock.Lock(folder).release()


@pytest.mark.parametrize("how", ["fail", "killed"])
def test_what_is_left_of_a_process_that_fails_or_is_killed(folder, how):
    first = Process(folder, how)
    assert first.said() == "taken"
    code = first.end(kill=how == "killed")
    assert code == (1 if how == "fail" else -signal.SIGKILL)
    assert (folder / lock.NAME).exists() == (how == "killed")
    with lock.Lock(folder) as taken:
        assert json.loads(taken.path.read_text())["process"] == os.getpid()


def test_of_many_that_find_a_stale_lock_one_takes_it(folder):
    stale = Process(folder)
    assert stale.said() == "taken"
    stale.end(kill=True)
    processes = [Process(folder, go=False) for _ in range(4)]
    for process in processes:
        process.tell()
    said = [process.said() for process in processes]
    assert said.count("taken") == 1
    assert sum("is in use by process" in text for text in said) == 3
    for process in processes:
        process.end()
    assert not (folder / lock.NAME).exists()


def write(folder, **changes):
    holder = {**vars(lock.Holder.here()), **changes}
    (folder / lock.NAME).write_text(json.dumps(holder))


def test_a_number_that_another_process_got_since_is_no_holder(folder):
    parent = os.getppid()
    write(folder, process=parent, began=lock._began(parent))
    with pytest.raises(LockedError, match=f"in use by process {parent} "):
        lock.Lock(folder)
    write(folder, process=parent, began="another boot/12")
    lock.Lock(folder).release()


@pytest.mark.parametrize("elsewhere", [{"host": "far-away"}, {"namespace": "pid:[1]"}])
def test_what_cannot_be_seen_from_here_is_for_the_user_to_remove(folder, elsewhere):
    write(folder, process=2**22 - 1, **elsewhere)
    with pytest.raises(
        LockedError, match=rf"does not run any more, remove {folder}/\.lock to go on"
    ):
        lock.Lock(folder)
    (folder / lock.NAME).unlink()
    lock.Lock(folder).release()


def test_jobs_within_jobs_and_threads_of_a_process_share_it(folder):
    outer = lock.Lock(folder)
    found = []

    def inner():
        with lock.Lock(folder) as again:
            again.check()
            found.append(again.first)

    thread = threading.Thread(target=inner)
    thread.start()
    thread.join()
    assert outer.first and found == [False]
    other = Process(folder)
    assert "is in use by" in other.said()
    other.end()
    outer.check()
    outer.release()
    assert not (folder / lock.NAME).exists()


def test_whose_lock_was_taken_away_learns_it_and_leaves_the_others(folder):
    mine = lock.Lock(folder)
    write(folder, process=os.getppid(), began=lock._began(os.getppid()))
    with pytest.raises(LockedError, match=f"in use by process {os.getppid()}"):
        mine.check()
    mine.release()
    assert (folder / lock.NAME).exists()
    (folder / lock.NAME).unlink()
    mine = lock.Lock(folder)
    (folder / lock.NAME).unlink()
    with pytest.raises(WorkdirError, match=r"or its file \.lock was"):
        mine.check()
    mine.release()


DAMAGED = ["{", "[]", "7", '{"host": 3}', "[" * 5000, json.dumps({"process": -1})]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_lock_is_named_and_an_empty_one_is_free(folder, text):
    (folder / lock.NAME).write_text(text)
    with pytest.raises(LockedError, match=r"\.lock is damaged, .* remove it"):
        lock.Lock(folder)
    assert (folder / lock.NAME).read_text() == text
    (folder / lock.NAME).write_text("")
    lock.Lock(folder).release()


def test_links_and_pipes_in_its_place_are_refused(folder):
    (folder / "target").write_text("precious")
    (folder / lock.NAME).symlink_to(folder / "target")
    with pytest.raises(WorkdirError, match=r"\.lock cannot be written .* it is a link"):
        lock.Lock(folder)
    assert (folder / "target").read_text() == "precious"
    (folder / lock.NAME).unlink()
    os.mkfifo(folder / lock.NAME)
    with pytest.raises(WorkdirError, match=r"\.lock is no plain file"):
        lock.Lock(folder)
