"""Calls that begin before their results are asked for, some of them at a time."""

import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

TRAININGS = 2  # at a time on a CPU, whose cores a small network leaves idle; more was not measured


class Ahead:
    """The results of a function of ``0, ..., count - 1``, asked for in this order.

    When one is asked for, the next ones are begun as well, in threads. A context manager: at the
    end, and after an error, nothing more is begun, and what is running is waited for.
    """

    def __init__(self, function: Callable[[int], Any], count: int, at_a_time: int):
        """Begins nothing yet.

        Args:
          function: of a number; threads may call it at the same time.
          count: how many numbers there are.
          at_a_time: so many calls run at most; with 1 there is no thread.
        """
        self._function, self._count = function, count
        self._pool = ThreadPoolExecutor(at_a_time) if at_a_time > 1 else None
        self._begun: dict[int, Future] = {}

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, number: int, alone: bool = False) -> Any:
        """The result for a number; raises what the function raised.

        Args:
          number: from 0; none that was asked for before.
          alone: begins no other, so that what only the first call does is done once.
        """
        if self._pool is None:
            return self._function(number)
        for i in range(number, number + 1 if alone else self._count):
            if i not in self._begun:
                context = contextvars.copy_context()  # whether bars are shown, for instance
                self._begun[i] = self._pool.submit(context.run, self._function, i)
        return self._begun.pop(number).result()


def at_a_time() -> int:
    """How many trainings of small networks are run at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(TRAININGS, cores or 1) if jax.default_backend() == "cpu" else 1
