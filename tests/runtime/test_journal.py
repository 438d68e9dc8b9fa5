"""Selections that are stopped and go on: each call is made once, and answers the same."""

import os
import pathlib
import shutil
import signal

import numpy as np
import pytest

from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.loop import Stopped
from dnas.runtime.workdir import Workdir, WorkdirError


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
            return {"third": np.float32(self.journal.loaded(state)["w"]) / 3}

        return self.journal.measured(kind, value)["third"]

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


@pytest.mark.filterwarnings("ignore:no checkpoint of step 2")
@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: [*lines[:2], lines[2].replace("0", "1", 1), *lines[3:]],
        lambda lines: [*lines[:2], "[" * 10**5, *lines[3:]],
        lambda lines: [*lines[:2], "3", *lines[3:]],
    ],
)
def test_what_comes_behind_a_damaged_line_is_measured_again(tmp_path, damage):
    expected = Worker(tmp_path).everything()
    path = tmp_path / "selection.jsonl"
    whole = path.read_text()
    path.write_text("\n".join(damage(whole.splitlines())) + "\n")
    with pytest.warns(UserWarning, match=r"line 3 of .*jsonl is damaged .* computed again"):
        worker = Worker(tmp_path)
    found = worker.everything()
    assert [x.tolist() for x in found] == [x.tolist() for x in expected]
    # The first training's state was dropped by then, and is made again.
    assert worker.calls == ["measure", "train", *["train", "measure"] * 2]
    assert path.read_text() == whole


def test_a_state_that_is_damaged_is_trained_again(tmp_path):
    expected = Worker(tmp_path).everything()
    path = tmp_path / "selection.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))  # the last measurement is to be made again
    shutil.rmtree(tmp_path / "selection" / "6" / "arrays")
    worker = Worker(tmp_path)
    with pytest.warns(UserWarning, match="that training is repeated"):
        found = worker.everything()
    assert worker.calls == ["measure", "train"]  # from the state that was saved before
    assert found[-1].tobytes() == expected[-1].tobytes()


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
