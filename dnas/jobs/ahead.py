"""Calls that begin before their results are asked for, some of them at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Ahead:
    """The results of a function of ``0, ..., count - 1``, asked for in this order.

    When one is asked for, the next ones are begun as well, in threads. A context manager: at the
    end nothing more is begun, and what is running is waited for.
    """

    def __init__(self, function: Callable[[int], Any], count: int, at_a_time: int):
        """Begins nothing yet.

        Args:
          function: of a number; threads may call it at the same time.
          count: how many numbers there are.
          at_a_time: so many calls run at most.
        """
        self._function, self._count, self._at_a_time = function, count, at_a_time
        self._pool = ThreadPoolExecutor(at_a_time)
        self._begun: dict[int, Future] = {}

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, number: int) -> Any:
        """The result for a number; raises what the function raised."""
        for i in range(number, min(number + self._at_a_time, self._count)):
            if i not in self._begun:
                self._begun[i] = self._pool.submit(self._function, i)
        return self._begun.pop(number).result()
