"""Calls that begin before their results are asked for."""

import threading
import time

import pytest

from dnas.runtime.ahead import Ahead


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_so_many_run_at_a_time(at_a_time):
    together = threading.Barrier(at_a_time)
    running, most = [], []

    def call(number):
        running.append(number)
        most.append(len(running))
        together.wait(timeout=30)  # would break if fewer ran
        running.remove(number)
        return number * 10

    with Ahead(call, 6, at_a_time) as ahead:
        assert [ahead(number) for number in range(6)] == [0, 10, 20, 30, 40, 50]
    assert max(most) <= at_a_time and len(most) == 6


def test_what_fails_is_raised_where_it_is_asked_for():
    def call(number):
        if number == 1:
            raise ValueError(f"number {number}")
        return number

    with Ahead(call, 3, 2) as ahead:
        assert ahead(0) == 0
        with pytest.raises(ValueError, match="number 1"):
            ahead(1)
        assert ahead(2) == 2


@pytest.mark.parametrize("alone", [True, False])
def test_in_the_end_nothing_more_begins_and_what_runs_is_waited_for(alone):
    begun, done, running = [], [], threading.Event()

    def call(number):
        begun.append(number)
        if number:
            running.set()
            time.sleep(0.1)
        done.append(number)

    with pytest.raises(KeyError), Ahead(call, 10, 2) as ahead:
        ahead(0, alone)
        if not alone:
            assert running.wait(timeout=30)
        raise KeyError
    assert sorted(begun) == sorted(done)
    assert begun == [0] if alone else 2 <= len(begun) < 5


def test_only_what_is_asked_for_from_on_is_called():
    called = []
    with Ahead(called.append, 6, 2) as ahead:
        ahead(4)
        ahead(5)
    assert sorted(called) == [4, 5]
