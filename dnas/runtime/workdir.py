"""The files of a working directory.

    config.json          the settings of the run, see `dnas.runtime.settings`; others are refused
    .lock                the process that writes, see `dnas.runtime.lock`
    metrics.jsonl        one line an epoch
    events.out.tfevents  the same for TensorBoard
    checkpoints/         see `dnas.runtime.checkpoints`
    and the results that a job writes: genotype.json, alphas.npz, tables, pictures

Files are replaced in one piece (see `dnas.runtime.writing`), so that a process killed at any moment
leaves the old file or the new one. A directory that is removed or moved while a run writes to it
is noticed at the next file, and the run ends with an error. A `Workdir` without a path writes
nothing: a job need not ask whether it has a directory.
"""

import io
import itertools
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dnas.checks import shown
from dnas.runtime import reading, settings, writing
from dnas.runtime.errors import (
    ContradictionError,
    DamagedError,
    LockedError,
    WorkdirError,
    unwritable,
)
from dnas.runtime.events import Events
from dnas.runtime.lock import Lock

__all__ = [
    "ContradictionError",
    "DamagedError",
    "LockedError",
    "Workdir",
    "WorkdirError",
    "check_workdir",
    "open_workdir",
]
_SHOWN = 12  # differing settings in a message
_SETTINGS = {"config.json", "network.json"}  # which say what is run, not what came of it


class Workdir:
    """A directory that holds one run; `open_workdir` makes it. A context manager.

    Its methods that write raise WorkdirError, which names the file, where one cannot be written.
    """

    def __init__(self, path: pathlib.Path | None, lock: Lock | None = None):
        """Wraps a directory that exists, or nothing.

        Args:
          path: the directory; None writes nothing and finds nothing.
          lock: of the directory, released when this is closed; None only reads, or trusts the
            caller that nobody else writes.
        """
        self.path = path
        self._lock = lock
        self._events = None if path is None else Events(path)

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, replacing it in one piece."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, data: Any) -> None:
        """Writes JSON, replacing the file in one piece."""
        self.write_text(name, json.dumps(data, indent=2) + "\n")

    def write_sealed(self, name: str, data: Mapping[str, Any]) -> None:
        """Writes JSON with a checksum, replacing the file in one piece."""
        self.write_json(name, reading.seal(data))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays as an ``.npz``, replacing the file in one piece."""
        buffer = io.BytesIO()
        named: dict[str, Any] = dict(arrays)
        np.savez_compressed(buffer, **named)
        self.write_bytes(name, buffer.getvalue())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file, replacing it in one piece."""
        if self.path is not None:
            self.check()
            writing.replace(self.path / name, data)

    def read_json(self, name: str, check: Callable[[Any], None] | None = None) -> Any:
        """What a JSON file holds; None where there is no such file.

        Args:
          name: of the file.
          check: raises ValueError unless the content is what it should be.

        Raises:
          DamagedError: it is no JSON, or not what it should be.
        """

        def parse(data: bytes) -> Any:
            content = reading.parse_json(data)
            if check is not None:
                check(content)
            return content

        return self._parsed(name, parse)

    def read_sealed(self, name: str) -> dict[str, Any] | None:
        """What `write_sealed` wrote; None where there is no such file.

        Raises:
          DamagedError: it was changed.
        """
        return self._parsed(name, lambda data: reading.unseal(reading.parse_json(data)))

    def read_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an ``.npz``; None where there is no such file.

        Raises:
          DamagedError: it is none.
        """
        return self._parsed(name, reading.parse_arrays)

    def append_metrics(self, line: Mapping[str, float]) -> None:
        """Adds one epoch to metrics.jsonl and to TensorBoard's events.

        Args:
          line: numbers by name, `epoch` and `step` among them.
        """
        self.append_line("metrics.jsonl", line)
        if self._events is not None:
            self._events.write(line)

    def append_line(self, name: str, line: Mapping[str, Any]) -> None:
        """Adds a line of JSON to a file."""
        if self.path is not None:
            self.check()
            writing.append(self.path / name, (json.dumps(line) + "\n").encode())

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Writes a file with a line of JSON for each dictionary, replacing it in one piece."""
        self.write_text(name, "".join(json.dumps(line) + "\n" for line in lines))

    def rewind_metrics(self, history: Iterable[Mapping[str, float]]) -> None:
        """Makes metrics.jsonl hold these epochs and no later ones, which a run writes again.

        Args:
          history: the epochs that a checkpoint knows; a file that does not begin with them was
            damaged, and there is a warning.
        """
        wanted = "".join(json.dumps(line) + "\n" for line in history).encode()
        found = self._read("metrics.jsonl") or b""
        if self.path is not None and not found.startswith(wanted):
            warnings.warn(
                f"{self.path / 'metrics.jsonl'} lacks epochs, or has others than the checkpoint; "
                "it is written again",
                stacklevel=2,
            )
        if found != wanted:
            self.write_bytes("metrics.jsonl", wanted)

    def read_sealed_lines(self, name: str) -> list[dict[str, Any]]:
        """The lines that `append_line` wrote of sealed data (see `dnas.runtime.reading`).

        What comes behind a damaged line is removed, and there is a warning unless it is the
        end of a line that a killed process began.

        Args:
          name: of the file, which may not exist.
        """
        lines: list[dict[str, Any]] = []
        texts, text = (self._read(name) or b"").splitlines(keepends=True), b""
        try:
            for number, text in enumerate(texts, 1):
                lines.append(reading.unseal(reading.parse_json(text), number))
        except ValueError as error:
            if text is not texts[-1] or text.endswith(b"\n"):
                warnings.warn(
                    f"line {len(lines) + 1} of {self._where(name)} is damaged "
                    f"({reading.brief(error)}); it and those behind it are computed again",
                    stacklevel=2,
                )
        if texts:
            self.write_lines(name, map(reading.seal, lines, itertools.count(1)))
        return lines

    def subdirectory(
        self, name: str, config: Mapping[str, Any], free: Iterable[str] = ()
    ) -> "Workdir":
        """Opens a directory inside of this one for a run within the run.

        Args:
          name: its name.
          config: the settings of that run.
          free: dotted names of settings that may change.

        Raises:
          WorkdirError: see `open_workdir`; or the name is a link that leads out of this directory.
        """
        return open_workdir(self.folder(name), config, free)

    def folder(self, name: str) -> pathlib.Path | None:
        """The path of a directory inside of this one, which may not exist; None without a path.

        Raises:
          WorkdirError: it is a link that leads out of this directory; or see `check`.
        """
        if self.path is None:
            return None
        self.check()
        path = self.path / name
        if not path.resolve().is_relative_to(self.path):
            raise WorkdirError(
                f"workdir: {path} is a link to {path.resolve()}, and a run writes only inside of "
                "its directory: remove the link, or make the whole directory one"
            )
        return path

    def check(self) -> None:
        """Raises WorkdirError unless the directory is still there, and this process' own."""
        if self._lock is not None:
            self._lock.check()

    def close(self) -> None:
        """Closes TensorBoard's file, and lets other processes write to the directory."""
        if self._events is not None:
            self._events.close()
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _parsed(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        data = self._read(name)
        if data is None:
            return None
        try:
            return parse(data)
        except ValueError as error:
            reason = reading.brief(error)
            raise DamagedError(f"{self._where(name)} is damaged ({reason})") from error

    def _where(self, name: str) -> pathlib.Path:
        """The path of a file in a message."""
        return pathlib.Path(self.path or "", name)

    def _read(self, name: str) -> bytes | None:
        if self.path is None or not (self.path / name).is_file():
            return None
        return (self.path / name).read_bytes()


def resolved(path: str | os.PathLike) -> pathlib.Path:
    """The absolute path of a directory that a user gave; WorkdirError for what is no path."""
    if not isinstance(path, str | os.PathLike):
        raise WorkdirError(f"workdir={shown(path)}: expected the path of a directory")
    return pathlib.Path(path).expanduser().resolve()


def open_workdir(
    path: str | os.PathLike | None, config: Mapping[str, Any], free: Iterable[str] = ()
) -> Workdir:
    """Opens a working directory for a run, creating it where it does not exist.

    Args:
      path: the directory; None gives a `Workdir` that writes nothing.
      config: the settings of the run: nested dictionaries of what JSON can hold.
      free: dotted names of settings that do not influence the result, and of whole sections;
        they may differ from what the directory was made with.

    Returns:
      The directory, which no other process can open until it is closed.

    Raises:
      WorkdirError: see `check_workdir`; or the directory cannot be made or written.
      LockedError: another process writes to it.
    """
    if path is None:
        return Workdir(None)
    check_workdir(path, config, free)
    path = resolved(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    lock = Lock(path)
    workdir = Workdir(path, lock)
    try:
        stored = check_workdir(path, config, free)  # another process may have been faster
        if stored and (changed := settings.changed_versions(stored)):
            # Without the path, so that Python shows it once for the directories of a job.
            warnings.warn(
                "workdir: this run goes on with other versions, so that results may differ from "
                f"those of one that was not interrupted, by rounding at least: {changed}",
                stacklevel=2,
            )
        if lock.first:  # else a job around this one may be writing
            writing.clear(path)
        workdir.write_json("config.json", settings.stamped(config, stored))
    except BaseException:
        workdir.close()
        raise
    return workdir


def check_workdir(
    path: str | os.PathLike, config: Mapping[str, Any], free: Iterable[str] = ()
) -> Mapping[str, Any] | None:
    """Checks that `open_workdir` would open a directory, without writing anything.

    Args:
      path: the directory; it may be empty, or not exist.
      config: as `open_workdir` gets it.
      free: likewise.

    Returns:
      What config.json holds of a run that can go on; None where a run begins.

    Raises:
      ContradictionError: the directory was made with other settings, or by a version of dnas that
        wrote them in another way, and holds results of them; the message shows each.
      WorkdirError: the path is a file, a directory full of something else (hidden files do not
        count), or its config.json is damaged.
    """
    path = resolved(path)
    if not path.exists():
        return None
    if not path.is_dir():
        raise WorkdirError(f"workdir: {path} is a file, expected a directory")
    try:
        stored = Workdir(path).read_json("config.json", settings.check)
    except DamagedError as error:
        raise DamagedError(
            f"workdir: {error}. Choose another workdir, or restore that file to resume the run"
        ) from error
    # A run that was killed when it began leaves no more than a hidden temporary file.
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if stored is None:
        if names:
            raise WorkdirError(
                f"workdir: {path} holds {', '.join(names[:3])}{', ...' * (len(names) > 3)} but no "
                "config.json, so it is not the directory of a run; choose a new or empty one"
            )
        return None
    lines = settings.contradictions(stored, config, free)
    if lines and set(names) <= _SETTINGS:
        return None  # a run that wrote nothing else has nothing to lose
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        tested = all(line.startswith("data.test.") for line in lines)
        raise ContradictionError(
            f"workdir: {path} belongs to a run with other settings:\n  "
            + "\n  ".join([*lines[:_SHOWN], *more])
            + "\nChoose another workdir, or the settings it was made with to resume that run."
            + " dnas.evaluate(workdir, data) tests a trained network on other examples." * tested
        )
    return stored
