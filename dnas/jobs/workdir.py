"""The files of a working directory.

    config.json          the settings of the run; a run with others is refused
    metrics.jsonl        one line an epoch
    events.out.tfevents  the same for TensorBoard
    checkpoints/         see `dnas.jobs.checkpoints`
    and the results that a job writes: genotype.json, alphas.npz, tables, pictures

Files are replaced in one piece (written beside, then renamed), so that a process killed at any
moment leaves the old file or the new one. A `Workdir` without a path writes nothing: a job need
not ask whether it has a directory.
"""

import io
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

_SHOWN = 12  # differing settings in a message


class WorkdirError(ValueError):
    """A place cannot be the working directory of this run."""


class ContradictionError(WorkdirError):
    """A working directory belongs to a run with other settings."""


class Workdir:
    """A directory that holds one run; `open_workdir` makes it."""

    def __init__(self, path: pathlib.Path | None):
        """Wraps a directory that exists, or nothing.

        Args:
          path: the directory; None writes nothing and finds nothing.
        """
        self.path = path
        self._events = None

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, replacing it in one piece."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, data: Any) -> None:
        """Writes JSON, replacing the file in one piece."""
        self.write_text(name, json.dumps(data, indent=2) + "\n")

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays as an ``.npz``, replacing the file in one piece."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        self.write_bytes(name, buffer.getvalue())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file, replacing it in one piece."""
        if self.path is None:
            return
        target = self.path / name
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)

    def read_json(self, name: str) -> Any:
        """What a JSON file holds; None where there is no such file."""
        text = self._read(name)
        return None if text is None else json.loads(text)

    def read_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an ``.npz``; None where there is no such file."""
        data = self._read(name)
        if data is None:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)

    def append_metrics(self, line: Mapping[str, float]) -> None:
        """Adds one epoch to metrics.jsonl and to TensorBoard's events.

        Args:
          line: numbers by name, `epoch` and `step` among them.
        """
        if self.path is not None:
            self.append_line("metrics.jsonl", line)
            self._write_events(line)

    def append_line(self, name: str, line: Mapping[str, Any]) -> None:
        """Adds a line of JSON to a file."""
        if self.path is None:
            return
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Writes a file with a line of JSON for each dictionary, replacing it in one piece."""
        self.write_text(name, "".join(json.dumps(line) + "\n" for line in lines))

    def metrics(self, epochs: int) -> list[dict[str, float]]:
        """The lines of metrics.jsonl of the first epochs; later ones are removed from the file.

        A run that resumes behind its last line writes those epochs again.

        Args:
          epochs: number of epochs that are finished.
        """
        return self.read_lines("metrics.jsonl", lambda line: line["epoch"] <= epochs)

    def read_lines(
        self, name: str, keep: Callable[[dict[str, Any]], bool] = lambda line: True
    ) -> list[dict[str, Any]]:
        """The lines of JSON that a file holds; others, and damaged ones, are removed from it.

        Args:
          name: of the file, which may not exist.
          keep: which lines are wanted.
        """
        data = self._read(name)
        if data is None:
            return []
        lines = []
        for text in data.decode(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break  # the process was killed while it wrote its last line
            if keep(line):
                lines.append(line)
        self.write_lines(name, lines)
        return lines

    def subdirectory(
        self, name: str, config: Mapping[str, Any], free: Iterable[str] = ()
    ) -> "Workdir":
        """Opens a directory inside of this one for a run within the run.

        Args:
          name: its name.
          config: the settings of that run.
          free: dotted names of settings that may change.
        """
        return open_workdir(None if self.path is None else self.path / name, config, free)

    def close(self) -> None:
        """Closes TensorBoard's file."""
        if self._events:
            self._events.close()
        self._events = None

    def _read(self, name: str) -> bytes | None:
        if self.path is None or not (self.path / name).is_file():
            return None
        return (self.path / name).read_bytes()

    def _write_events(self, line: Mapping[str, float]) -> None:
        if self._events is None:
            try:
                import tensorboardX

                # A resumed run hides the events that the killed one wrote after its checkpoint.
                self._events = tensorboardX.SummaryWriter(str(self.path), purge_step=line["step"])
            except Exception as error:  # optional: its absence or failure never ends a run
                warnings.warn(f"no TensorBoard events will be written: {error!r}", stacklevel=2)
                self._events = False
        if self._events:
            for name, value in line.items():
                if name not in ("epoch", "step"):
                    self._events.add_scalar(name, value, line["step"])
            self._events.flush()


def open_workdir(
    path: str | os.PathLike | None, config: Mapping[str, Any], free: Iterable[str] = ()
) -> Workdir:
    """Opens a working directory for a run, creating it where it does not exist.

    Args:
      path: the directory; None gives a `Workdir` that writes nothing.
      config: the settings of the run: nested dictionaries of what JSON can hold.
      free: dotted names of settings that do not influence the result, and of whole sections;
        they may differ from what the directory was made with.

    Raises:
      WorkdirError: see `check_workdir`; or the directory cannot be made or written.
    """
    if path is None:
        return Workdir(None)
    check_workdir(path, config, free)
    path = pathlib.Path(path).expanduser().resolve()
    workdir = Workdir(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        workdir.write_json("config.json", config)
    except OSError as error:
        raise WorkdirError(
            f"workdir: {path} cannot be written ({error.strerror}); choose a directory of your own"
        ) from error
    return workdir


def check_workdir(
    path: str | os.PathLike, config: Mapping[str, Any], free: Iterable[str] = ()
) -> None:
    """Checks that `open_workdir` would open a directory, without writing anything.

    Args:
      path: the directory; it may be empty, or not exist.
      config: as `open_workdir` gets it.
      free: likewise.

    Raises:
      ContradictionError: the directory was made with other settings, and holds results of them;
        the message shows each.
      WorkdirError: the path is a file, a directory full of something else (hidden files do not
        count), or its config.json is damaged.
    """
    path = pathlib.Path(path).expanduser().resolve()
    if not path.exists():
        return
    if not path.is_dir():
        raise WorkdirError(f"workdir: {path} is a file, expected a directory")
    try:
        stored = Workdir(path).read_json("config.json")
        if not isinstance(stored, Mapping | None):
            raise ValueError(f"expected settings, got {stored!r:.60}")
    except ValueError as error:
        raise WorkdirError(
            f"workdir: {path / 'config.json'} is damaged ({error}). Choose another workdir, or "
            "restore that file to resume the run"
        ) from error
    # A run that was killed when it began leaves no more than a hidden temporary file.
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if stored is None:
        if names:
            raise WorkdirError(
                f"workdir: {path} holds {', '.join(names[:3])}{', ...' * (len(names) > 3)} but no "
                "config.json, so it is not the directory of a run; choose a new or empty one"
            )
        return
    # Tuples become lists, as they will be read back.
    lines = differences(stored, json.loads(json.dumps(config)), free)
    if lines and names != ["config.json"]:  # a run that wrote nothing else has nothing to lose
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise ContradictionError(
            f"workdir: {path} belongs to a run with other settings:\n  "
            + "\n  ".join([*lines[:_SHOWN], *more])
            + "\nChoose another workdir, or the settings it was made with to resume that run."
        )


def differences(
    stored: Mapping[str, Any], given: Mapping[str, Any], free: Iterable[str] = ()
) -> list[str]:
    """One line for each setting that differs: ``search.epochs: 50 there, 3 here``.

    Settings that both have come first: they are what a user changed.

    Args:
      stored: the settings in the directory.
      given: the settings of this run.
      free: dotted names of settings and sections that are not compared.
    """
    there, here = flatten(stored), flatten(given)
    free = tuple(free)

    def compared(name):
        return not any(name == f or name.startswith(f + ".") for f in free)

    def spell(settings, name):
        return json.dumps(settings[name]) if name in settings else "nothing"

    both = [name for name in here if name in there]
    return [
        f"{name}: {spell(there, name)} there, {spell(here, name)} here"
        for name in dict.fromkeys([*both, *here, *there])
        if compared(name) and spell(there, name) != spell(here, name)
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with dotted names."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
