"""Selections that are stopped and go on: each call is made once, and answers the same."""

import os
import pathlib
import signal

import numpy as np
import pytest

from dnas.jobs.interrupts import Interrupts
from dnas.jobs.journal import Journal
from dnas.jobs.loop import Stopped
from dnas.jobs.workdir import Workdir, WorkdirError


class Worker:
    """Trains and measures numbers, and counts how often."""

    def __init__(self, folder):
        self.interrupts = Interrupts()
        self.journal = Journal(Workdir(folder), self.interrupts)
        self.calls = []

    def train(self, state, by):
        def add(state):
            self.calls.append("train")
            return {"w": state["w"] + by}, {"t": np.float32([by])}

        return self.journal.trained(f"train {by}", state, add)

    def measure(self, state, kind="measure"):
        def value():
            self.calls.append("measure")
            return (np.float32(self.journal.loaded(state)["w"]) / 3,)

        return self.journal.measured(kind, value)[0]

    def everything(self):
        state, found = {"w": np.float32([1, 2])}, []
        found.append(self.measure(state))
        for by in (1, 2, 4):
            state, tables = self.train(state, by)
            found += [tables["t"], self.measure(state)]
        return found


def test_each_call_is_made_once(tmp_path):
    expected = Worker(None).everything()
    assert [x.tolist() for x in expected[-1:]] == [[np.float32(8) / 3, np.float32(3)]]
    done = []
    for left in range(7, 0, -1):  # seven calls; after each of them the process ends
        worker = Worker(tmp_path)

        def note(line, worker=worker, original=worker.journal._note):
            original(line)
            worker.interrupts.received = "SIGTERM"

        worker.journal._note = note
        if left > 1:
            with pytest.raises(Stopped, match=rf"after measurement {8 - left}; saved as .*jsonl"):
                worker.everything()
        else:
            found = worker.everything()
        assert len(worker.calls) == 1
        done += worker.calls
    assert done == ["measure"] + ["train", "measure"] * 3
    last = Worker(tmp_path)
    for values in (found, last.everything()):
        for array, other in zip(values, expected, strict=True):
            assert array.tobytes() == other.tobytes() and array.dtype == other.dtype
    assert last.calls == []


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    Worker(tmp_path).everything()
    path = tmp_path / "selection.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:9]]))
    worker = Worker(tmp_path)
    worker.everything()
    assert worker.calls == ["measure"] and path.read_text().splitlines() == lines


def test_states_of_a_journal_that_was_removed_are_not_taken_for_later_ones(tmp_path):
    Worker(tmp_path).everything()
    (tmp_path / "selection.jsonl").unlink()
    for calls in (["train", "train"], []):
        worker, state = Worker(tmp_path), {"w": np.float32([1, 2])}
        for by in (3, 5):
            state, _ = worker.train(state, by)
        assert worker.calls == calls and worker.journal.loaded(state)["w"].tolist() == [9, 10]


def test_another_selection_is_refused(tmp_path):
    state = {"w": np.float32([1, 2])}
    Worker(tmp_path).measure(state)
    with pytest.raises(WorkdirError, match=r"line 1 .*is 'measure', this .*'other': remove that"):
        Worker(tmp_path).measure(state, "other")


def test_signals_are_heeded_within_a_call(tmp_path):
    with Interrupts() as interrupts:
        journal = Journal(Workdir(tmp_path), interrupts)
        journal.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM after measurement 0") as stopped:
            journal.check()
    assert stopped.value.path == pathlib.Path(tmp_path) / "selection.jsonl"
