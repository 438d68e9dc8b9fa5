"""The progress of a run: a bar in a terminal or notebook, lines in a log file."""

import functools
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dnas.data import bars

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_EPOCHS = 5.0


def heeds_progress(job: Callable) -> Callable:
    """Lets the argument `progress` of a job decide about the bars of its data, too."""

    @functools.wraps(job)
    def heeding(*arguments: Any, progress: bool = True, **settings: Any) -> Any:
        with bars(progress):
            return job(*arguments, progress=progress, **settings)

    return heeding


class Progress:
    """Shows epoch, loss, metrics, steps per second and time left.

    In a terminal and in a notebook it is a tqdm bar. Elsewhere (a log file) it is one line at
    the end of an epoch, but at most one every few seconds, and within long epochs one every
    half minute; the last epoch always has its line.
    """

    def __init__(
        self,
        title: str,
        total: int,
        start: int,
        epochs: int,
        *,
        show: bool = True,
        unit: str = "epoch",
        stream: TextIO | None = None,
        clock: Any = time.monotonic,
    ):
        """Starts to show a run.

        Args:
          title: what is running.
          total: steps of the whole run.
          start: steps that are done already (a resumed run).
          epochs: epochs of the whole run.
          show: False shows nothing.
          unit: what an epoch is called.
          stream: where lines go; stderr by default.
          clock: seconds, for tests.
        """
        self._title, self._total, self._epochs, self._unit = title, total, epochs, unit
        self._steps, self._clock = start, clock
        self._stream = stream or sys.stderr
        self._show = show
        self._bar = _bar(title, total, start, self._stream) if show else None
        self._since = None  # (time, steps) after the first dispatch, which compiles
        self._last_line = clock()

    def compiling(self) -> None:
        """Says that the first dispatch compiles."""
        self._say(f"{self._title}: compiling")

    def compiled(self) -> None:
        """Starts the clock: what came before is not part of the speed."""
        self._since = (self._clock(), self._steps)
        self._say(f"{self._title}: running", bar_only=True)

    def update(self, epoch: int, steps: int, means: Mapping[str, float]) -> None:
        """Shows where the run is.

        Args:
          epoch: the current epoch, from 1.
          steps: steps done since the beginning of the run.
          means: mean metrics of this epoch so far.
        """
        if not self._show:
            return
        last = steps % (self._total // self._epochs) == 0
        advanced, self._steps = steps - self._steps, steps
        text = " ".join(filter(None, (describe(means), self._speed())))
        if self._bar is not None:
            where = f"{self._title}: {self._unit} {epoch}/{self._epochs}"
            self._bar.set_description_str(f"{where} {text}", refresh=False)
            self._bar.update(advanced)  # draws at most a few times a second
            if steps == self._total:
                self._bar.refresh()
        elif steps == self._total or self._clock() - self._last_line >= (
            _SECONDS_BETWEEN_EPOCHS if last else _SECONDS_BETWEEN_LINES
        ):
            where = f"{self._unit} {epoch}/{self._epochs} step {steps}/{self._total}"
            self._say(f"{self._title}: {where} {text}")

    def close(self) -> None:
        """Leaves the bar as it is and ends it."""
        if self._bar is not None:
            self._bar.close()

    def _say(self, line: str, bar_only: bool = False) -> None:
        if self._bar is not None:
            self._bar.set_description_str(line)
        elif self._show and not bar_only:
            self._last_line = self._clock()
            print(line, file=self._stream, flush=True)

    def _speed(self) -> str:
        if self._since is None:
            return ""
        seconds, steps = self._clock() - self._since[0], self._steps - self._since[1]
        if seconds <= 0 or steps <= 0:
            return ""
        rate = steps / seconds
        return f"{rate:.3g} steps/s, {duration((self._total - self._steps) / rate)} left"


def describe(means: Mapping[str, float]) -> str:
    """Training loss and metrics in a few words: ``loss 0.412, train accuracy 0.91``.

    Metrics are what the parts ``train`` and ``valid`` have beside losses.
    """
    words = [f"loss {means['train_loss']:.4g}"] if "train_loss" in means else []
    for name, value in means.items():
        part, _, metric = name.partition("_")
        if part in ("train", "valid") and metric != "loss":
            words.append(f"{part} {metric.replace('_', ' ')} {value:.4g}")
    return ", ".join(words) + ("," if words else "")


def duration(seconds: float) -> str:
    """A time to read: ``1:02:03`` or ``02:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def _bar(title: str, total: int, start: int, stream: TextIO) -> Any:
    """A tqdm bar where there is somebody to watch it; None otherwise."""
    notebook = "ipykernel" in sys.modules
    if not notebook and not stream.isatty():
        return None
    if notebook and importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm

        return tqdm(total=total, initial=start, desc=title, bar_format="{bar} {desc}")
    from tqdm import tqdm

    style = "{percentage:3.0f}%|{bar:20}| {desc}"
    # Some terminals say that they have no columns or lines; tqdm would then show nothing.
    terminal = shutil.get_terminal_size((0, 0))
    sized = terminal.columns and terminal.lines
    columns, lines = (None, None) if sized else (terminal.columns or 120, 24)
    return tqdm(
        total=total,
        initial=start,
        desc=title,
        bar_format=style,
        file=stream,
        dynamic_ncols=bool(sized),
        ncols=columns,
        nrows=lines,
    )
