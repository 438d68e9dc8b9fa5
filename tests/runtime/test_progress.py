import io

import numpy as np
import pytest

from dnas.data import bars, from_arrays
from dnas.data.decoding import bar, in_blocks
from dnas.data.images import statistics
from dnas.runtime.ahead import Ahead
from dnas.runtime.progress import Progress, describe, duration, heeds_progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_one_line_an_epoch_and_few_within():
    stream, clock = io.StringIO(), Clock()
    bar = Progress("search", total=40, start=0, epochs=2, stream=stream, clock=clock)
    bar.compiling()
    clock.now = 50.0
    bar.compiled()
    for step in range(1, 41):
        clock.now += 2.0
        bar.update((step - 1) // 20 + 1, step, {"train_loss": 1 / step, "temperature": 1.0})
    bar.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "search: compiling"
    # 50 s of compilation count neither for the speed nor for the time left.
    assert lines[1] == ("search: epoch 1/2 step 1/40 loss 1, 0.5 steps/s, 01:18 left")
    assert lines[2].startswith("search: epoch 1/2 step 16/40 loss 0.0625,")
    assert lines[3] == "search: epoch 1/2 step 20/40 loss 0.05, 0.5 steps/s, 00:40 left"
    assert lines[-1] == "search: epoch 2/2 step 40/40 loss 0.025, 0.5 steps/s, 00:00 left"
    assert len(lines) == 6


def test_a_terminal_gets_a_bar():
    pytest.importorskip("tqdm")
    stream = Terminal()
    bar = Progress("search", total=4, start=2, epochs=2, stream=stream)
    bar.compiling()
    assert "compiling" in stream.getvalue()
    bar.compiled()
    bar.update(2, 4, {"train_loss": 0.5, "valid_accuracy": 0.25})
    bar.close()
    last = stream.getvalue().split("\r")[-1]
    assert "search: epoch 2/2" in last and "100%" in last
    assert "loss 0.5, valid accuracy 0.25" in last


def test_hidden_says_nothing():
    stream = Terminal()
    bar = Progress("search", total=4, start=0, epochs=2, show=False, stream=stream)
    bar.compiling()
    bar.compiled()
    bar.update(1, 2, {"train_loss": 0.5})
    bar.close()
    assert stream.getvalue() == ""


def test_words():
    means = {"train_loss": 0.12345, "train_accuracy": 0.5, "valid_loss": 3.0, "grad_norm": 1.0}
    assert describe(means) == "loss 0.1235, train accuracy 0.5,"
    assert describe({}) == ""
    assert duration(3723) == "1:02:03" and duration(59.6) == "01:00"


def test_a_job_without_progress_reads_without_bars(monkeypatch):
    """Also in its threads, and in jobs within it that show theirs."""
    disabled = []

    class Bar(list):
        def __init__(self, items=(), *_, disable, **settings):
            super().__init__(items)
            disabled.append(disable)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            pass

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4) % 2
    train = from_arrays(images, labels, images, labels).train

    @heeds_progress
    def job(*within, progress=True):
        in_blocks(lambda block: None, 3, "reading")
        statistics(train, budget=8)
        with Ahead(lambda number: bar(), 2, at_a_time=2) as ahead:
            ahead(0), ahead(1)
        for other in within:
            other(progress=True)

    for job_shows in (True, False):
        disabled.clear()
        job(job, progress=job_shows)
        assert len(disabled) == 8 and set(disabled) == {not job_shows}
    disabled.clear()
    with bars(False):
        job()
    job()
    assert set(disabled[: len(disabled) // 2]) == {True}
    assert set(disabled[len(disabled) // 2 :]) == {False}
