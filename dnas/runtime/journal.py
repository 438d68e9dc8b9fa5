"""What a selection has measured so far, so that it can be interrupted.

A selection computes the same numbers whenever it runs. When it runs again, the journal in the
working directory answers what was measured before, call by call, and the supernet that was trained
last is at hand:

    selection.jsonl    one line a call, with a checksum
    selection/         the supernet after the last trainings, see `dnas.runtime.checkpoints`

What is damaged is computed again, with a warning.
"""

import functools
import shutil
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dnas.runtime.checkpoints import Checkpoints, DamagedCheckpointError
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.loop import Stopped
from dnas.runtime.reading import seal
from dnas.runtime.workdir import Workdir, WorkdirError

_FILE = "selection.jsonl"
Arrays = Mapping[str, np.ndarray]


class _Saved(NamedTuple):
    """A state that was trained before, and is loaded when it is needed.

    Attributes:
      call: which training it is of.
      again: trains it once more.
    """

    call: int
    again: Callable[[], Any]


class Journal:
    """The calls of a selection, answered from the directory where it knows them.

    Attributes:
      measurements: the number of calls to `measured`.
    """

    def __init__(self, files: Workdir, interrupts: Interrupts):
        """Opens the journal of a directory.

        Args:
          files: the directory of the search; without a path nothing is kept.
          interrupts: what asks the selection to stop.
        """
        self._files, self._interrupts = files, interrupts
        self._known = files.read_sealed_lines(_FILE)
        self._calls = self.measurements = 0
        folder = files.folder("selection")
        self._states = None if folder is None else Checkpoints(folder)
        if self._states and not self._known:  # states of a journal that was removed
            shutil.rmtree(self._states.directory, ignore_errors=True)
        self._template: Any = None

    def measured(self, kind: str, measure: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        """What a call measured, in float64.

        Args:
          kind: what is measured, with its extent, so that another selection is noticed.
          measure: does it, numbers in arrays by name; not called if it was done before.

        Raises:
          Stopped: the selection is asked to stop; what was measured is kept.
          WorkdirError: the journal is that of another selection.
        """
        line = self._next(kind)
        self.measurements += 1
        if line is None:
            values = {name: np.asarray(x).tolist() for name, x in measure().items()}
            line = {"kind": kind, "values": values}
            self._note(line)
        return {name: np.asarray(x, np.float64) for name, x in line["values"].items()}

    def trained(
        self, kind: str, state: Any, train: Callable[[Any], tuple[Any, Mapping[str, np.ndarray]]]
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """What a training made of a state; only the last one can be used again.

        Args:
          kind: as in `measured`.
          state: before; it may be one that this method returned.
          train: returns the state and float32 tables; not called if it was done before.

        Raises:
          Stopped: as in `measured`.
          WorkdirError: likewise.
        """
        if not isinstance(state, _Saved):
            self._template = state  # which a state that is loaded is like
        line = self._next(kind)
        if line is not None:
            tables = {name: np.asarray(x, np.float32) for name, x in line["tables"].items()}
            again = functools.cache(lambda: train(self.loaded(state))[0])
            return _Saved(self._calls, again), tables
        state, tables = train(self.loaded(state))
        if self._states:
            self._files.check()
            self._states.save(self._calls, state)
        lists = {name: np.asarray(x).tolist() for name, x in tables.items()}
        self._note({"kind": kind, "tables": lists})
        return state, dict(tables)

    def loaded(self, state: Any) -> Any:
        """A state as arrays, whether or not it was trained before."""
        if not isinstance(state, _Saved):
            return state
        if self._states is None:
            return state.again()
        try:
            return self._states.restore(self._template, state.call).tree
        except DamagedCheckpointError as error:
            warnings.warn(f"{error}; that training is repeated", stacklevel=2)
            return state.again()

    def check(self) -> None:
        """Raises Stopped if the selection is asked to stop; what is in flight is lost."""
        if self._interrupts.received:
            path = self._files.path and self._files.path / _FILE
            raise Stopped(self._interrupts.received, len(self._known), path, what="measurement")

    def _next(self, kind: str) -> dict[str, Any] | None:
        """The line of the next call; None where it was not made before."""
        self.check()
        self._calls += 1
        if self._calls > len(self._known):
            return None
        line = self._known[self._calls - 1]
        if line.get("kind") != kind:
            file = f"{self._files.path or ''}/{_FILE}"
            raise WorkdirError(
                f"line {self._calls} of {file} is {line.get('kind')!r}, this "
                f"selection measures {kind!r}: remove that file to select again"
            )
        return line

    def _note(self, line: dict[str, Any]) -> None:
        self._files.append_line(_FILE, seal(line, self._calls))
        self._known.append(line)
