"""The training loop that search and training share.

It dispatches chunks of steps, shows progress, watches for NaN and Inf, saves checkpoints and
resumes from them bit for bit, also in the middle of an epoch: the state, the step number, the
sums of the epoch's metrics and what is known of the epochs before are all there is, and all of it
is saved. The other files of a run only show it, and are never read to go on.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dnas.runtime.checkpoints import Checkpoints
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.progress import Progress
from dnas.runtime.sums import JOINT, Sums, flat, means, nested
from dnas.runtime.workdir import Workdir

Summary = Callable[[Sums, int], dict[str, float]]  # (sums, steps) -> numbers
Advance = Callable[[Any, Any, int], tuple[Any, Sums]]
SAVE_SECONDS = 300.0
_FINITE = "finite"


class Feed(Protocol):
    """Where batches come from; see `dnas.data`."""

    steps_per_epoch: int

    def chunks(self, start: int, stop: int, size: int) -> Generator:
        """Yields ``(batches, count)`` for the steps from `start` to before `stop`."""
        ...


class Replication(Protocol):
    """How a state is laid out over devices; see `dnas.runtime.parallel`."""

    def replicate(self, tree: Any) -> Any:
        """Puts a state on the devices."""
        ...

    def unreplicate(self, tree: Any) -> Any:
        """One replica of it."""
        ...


class Kept(Protocol):
    """What a run keeps of its epochs beside numbers; see `dnas.jobs.trajectory.Recorder`."""

    @property
    def trajectory(self) -> Mapping[str, np.ndarray]:
        """Arrays by name; all that there is to save."""
        ...

    def resume(self, trajectory: Mapping[str, np.ndarray]) -> None:
        """Goes on from what was saved."""


class Stopped(Exception):
    """The run was asked to stop (SIGTERM, Ctrl-C) and did so between two dispatches.

    Attributes:
      step: number of steps that are done, or of what else there is.
      path: the checkpoint from which the same run goes on; None where there is no directory.
    """

    def __init__(self, signal_name: str, step: int, path: pathlib.Path | None, what: str = "step"):
        self.step, self.path = step, path
        text = f"stopped by {signal_name} after {what} {step}; "
        if path is None:
            super().__init__(text + "nothing is saved because the run has no workdir")
        else:
            super().__init__(text + f"saved as {path}. The same command resumes there.")


class DivergedError(RuntimeError):
    """A loss or a weight became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished run leaves.

    Attributes:
      state: the last state, one replica.
      history: one dictionary of numbers for each epoch.
      epochs: how many epochs it took.
    """

    state: Any
    history: list[dict[str, float]]
    epochs: int


def default_chunk() -> int:
    """Steps a dispatch: many on an accelerator, one on a CPU, where a step may take 20 seconds.

    A signal is heeded, and progress shown, after each dispatch.
    """
    return 1 if jax.default_backend() == "cpu" else 32


def watched(step: Callable) -> Callable:
    """Adds to a step the metric by which `run` finds the step whose loss is NaN or Inf.

    Args:
      step: ``(state, *batches) -> (state, sums)``, with the sum ``sums['train']['loss']``.

    Returns:
      The step with the metric ``'finite'``, 1 where the loss is finite and 0 where not. Once
      the loss is not finite it stays so: the sum counts the good steps of a dispatch.
    """

    def watched_step(state, *batches):
        state, metrics = step(state, *batches)
        finite = jnp.isfinite(metrics["train"]["loss"])
        return state, {**metrics, _FINITE: finite.astype(jnp.float32)}

    return watched_step


def run(
    state: Any,
    advance: Advance,
    feed: Feed,
    *,
    epochs: int,
    files: Workdir | None = None,
    parallel: Replication | None = None,
    kept: Kept | None = None,
    on_epoch: Callable[[int, Any, dict[str, float]], Mapping[str, float] | None] | None = None,
    between: Callable[[list[dict[str, float]], Any], Any] | None = None,
    ended: Callable[[list[dict[str, float]]], bool] | None = None,
    summary: Summary | None = None,
    chunk: int | None = None,
    save_seconds: float = SAVE_SECONDS,
    progress: bool = True,
    title: str = "train",
) -> Outcome:
    """Runs epochs of steps, from the last checkpoint where there is one.

    At the end of an epoch come first the result files (`on_epoch`, metrics), then the
    checkpoint: a run killed in between repeats the epoch and writes the same files again.

    Args:
      state: the first state, any pytree of arrays, one replica. It is donated.
      advance: runs `count` steps, ``(state, batches, count) -> (state, sums of metrics)``.
      feed: batches for each step number.
      epochs: how many epochs the whole run has.
      files: the working directory; checkpoints lie in its ``checkpoints/``.
      parallel: replicates the state over devices; None leaves it as it is.
      kept: arrays that are saved with the state, and given back when a run resumes.
      on_epoch: called with the number of finished epochs, one replica of the state (valid
        during the call) and the epoch's numbers; returns further numbers for metrics.jsonl.
      between: ``(history, state) -> state`` after every epoch, for what depends on its numbers;
        what it returns is saved.
      ended: asked after every epoch, the last included, and when a run resumes at the end of one,
        whether that was the last; gets the history.
      summary: makes of the sums of an epoch, or of its steps so far, the numbers to show and keep;
        by default their means over the steps.
      chunk: steps a dispatch, `default_chunk()` by default. It changes no state, only the
        rounding of the mean metrics.
      save_seconds: a checkpoint is saved within an epoch when the last is older than this.
      progress: whether to show progress.
      title: what the progress bar says.

    Returns:
      The last state and the history, also of the epochs before a resume. A finished run
      returns them at once.

    Raises:
      Stopped: SIGTERM or Ctrl-C came, be it in the last step; the state is saved where there is
        a directory.
      DivergedError: a loss or a weight is not finite; the message names step and checkpoint.
      CheckpointError: a checkpoint cannot be written, all are damaged, or they are of another
        model. Where only the newest is damaged, there is a warning, and the one before is taken.
      WorkdirError: a file of the directory cannot be written, or the directory was moved.
    """
    loop = _Loop(state, feed, files or Workdir(None), parallel, kept, summary or means)
    total = epochs * feed.steps_per_epoch
    bar = Progress(title, total, loop.step, epochs, show=progress)
    try:
        with Interrupts() as interrupts:
            while not loop.ended(ended) and loop.step < total:  # the rule is asked at the end, too
                loop.run_epoch(advance, chunk or default_chunk(), bar, interrupts, save_seconds)
                if loop.step % feed.steps_per_epoch == 0:
                    loop.end_epoch(on_epoch, between)
                if interrupts.received:
                    raise loop.stopped(interrupts.received)
        return Outcome(loop.replica(), loop.history, loop.step // feed.steps_per_epoch)
    finally:
        bar.close()


def advanced(
    state: Any,
    advance: Advance,
    feed: Feed,
    start: int,
    steps: int,
    check: Callable[[], None] = lambda: None,
) -> Any:
    """Some steps that are no run of their own: nothing is saved, summed or shown.

    Args:
      state: before; it is donated.
      advance: as in `run`.
      feed: batches for each step number.
      start: number of the first step.
      steps: how many.
      check: called after each dispatch; may raise to stop.

    Returns:
      The state after them.
    """
    with contextlib.closing(feed.chunks(start, start + steps, default_chunk())) as chunks:
        for batches, count in chunks:
            state, _ = advance(state, batches, count)
            check()
    return state


class _Loop:
    """Where a run is: the state on the devices, the steps done, the epoch's sums so far."""

    def __init__(
        self,
        state: Any,
        feed: Feed,
        files: Workdir,
        parallel: Replication | None,
        kept: Kept | None,
        summary: Summary,
    ):
        self.feed, self.files, self.parallel, self.kept = feed, files, parallel, kept
        self.summary = summary
        self.per_epoch = feed.steps_per_epoch
        self.step, self.sums, self.history, self.compiled = 0, {}, [], False
        self.saved: int | None = None
        folder = files.folder("checkpoints")
        self.checkpoints = None if folder is None else Checkpoints(folder)
        # Some states hold infinities by design; only new ones are a sign of divergence.
        self.infinite = set(_not_finite(state))
        if self.checkpoints and (found := self.checkpoints.restore_newest(state)) is not None:
            self.step = self.saved = found.step
            state, self.sums, self.history = found.tree, found.notes["sums"], found.notes["history"]
            if kept is not None:
                kept.resume(found.records)
        files.rewind_metrics(self.history)
        state = jax.device_put(state)
        self.state = state if parallel is None else parallel.replicate(state)
        self.saved_at = time.monotonic()

    def replica(self) -> Any:
        return self.state if self.parallel is None else self.parallel.unreplicate(self.state)

    def run_epoch(
        self,
        advance: Advance,
        chunk: int,
        bar: Progress,
        interrupts: Interrupts,
        save_seconds: float,
    ) -> None:
        """Runs to the end of the epoch, or to the dispatch during which a signal came."""
        end = (self.step // self.per_epoch + 1) * self.per_epoch
        with contextlib.closing(self.feed.chunks(self.step, end, chunk)) as chunks:
            self.run_chunks(advance, chunks, bar, interrupts, save_seconds)

    def run_chunks(
        self,
        advance: Advance,
        chunks: Generator,
        bar: Progress,
        interrupts: Interrupts,
        save_seconds: float,
    ) -> None:
        pending = None
        for batches, count in chunks:
            if not self.compiled:
                bar.compiling()
            self.state, sums = advance(self.state, batches, count)
            if not self.compiled:
                bar.compiled()
                self.compiled = True
            # The host waits for the dispatch before this one: the device always has work.
            if pending:
                self.settle(*pending, bar)
            pending = (sums, count)
            if interrupts.received:
                break
            if self.checkpoints and time.monotonic() - self.saved_at > save_seconds:
                self.settle(*pending, bar)
                pending = None
                self.save(self.replica())
        if pending:
            self.settle(*pending, bar)

    def settle(self, sums: Sums, count: int, bar: Progress) -> None:
        """Waits for a dispatch and takes in what it measured."""
        found = flat(jax.device_get(dict(sums)))
        for name, value in found.items():
            if not np.isfinite(value).all():
                raise self.diverged(name, value, count, found.get(_FINITE))
        for name, value in found.items():
            before = np.asarray(self.sums.get(name, 0.0))
            self.sums[name] = (before + np.asarray(value, np.float64)).tolist()
        self.step += count
        bar.update((self.step - 1) // self.per_epoch + 1, self.step, self.means())

    def means(self) -> dict[str, float]:
        """The numbers of the epoch so far."""
        steps = (self.step - 1) % self.per_epoch + 1
        return self.summary(nested({n: x for n, x in self.sums.items() if n != _FINITE}), steps)

    def end_epoch(self, on_epoch: Callable | None, between: Callable | None) -> None:
        """Writes what an epoch leaves: result files, then the checkpoint."""
        epoch, state, means = self.step // self.per_epoch, self.replica(), self.means()
        self.check(state)
        extra = on_epoch(epoch, state, means) if on_epoch else None
        line = {"epoch": epoch, "step": self.step, **means, **(extra or {})}
        self.history.append(line)
        self.files.append_metrics(line)
        self.sums = {}
        if between is not None:
            state = between(self.history, state)
            self.state = state if self.parallel is None else self.parallel.replicate(state)
        self.save(state)

    def ended(self, ended: Callable | None) -> bool:
        """Whether this is the end of an epoch that is to be the last."""
        at_end = self.step > 0 and self.step % self.per_epoch == 0
        return at_end and ended is not None and ended(self.history)

    def save(self, state: Any) -> None:
        """Saves a checkpoint of this step, unless the state went bad."""
        if self.checkpoints:
            self.check(state)
            self.files.check()
            notes = {"sums": self.sums, "history": self.history}
            records = {} if self.kept is None else self.kept.trajectory
            self.checkpoints.save(self.step, state, notes, records)
            self.saved, self.saved_at = self.step, time.monotonic()

    def check(self, state: Any) -> None:
        """Raises unless the state is as finite as it was at the beginning."""
        bad = [name for name in _not_finite(state) if name not in self.infinite]
        if bad:
            names = ", ".join(bad[:3]) + ("" if len(bad) <= 3 else f" and {len(bad) - 3} more")
            raise DivergedError(f"NaN or Inf in {names} after step {self.step}. {self.way_back()}")

    def diverged(self, name: str, value: Any, count: int, good: Any) -> DivergedError:
        first, last = self.step + 1, self.step + count
        where = f"between steps {first} and {last}" if first < last else f"at step {first}"
        if good is not None and good < count:
            where = f"at step {first + int(good)}"
        epoch = self.step // self.per_epoch + 1
        bad = value if np.ndim(value) == 0 else np.asarray(value)[~np.isfinite(value)][0]
        name = name.replace(JOINT, "_")
        return DivergedError(f"{name} became {bad} {where} (epoch {epoch}). {self.way_back()}")

    def way_back(self) -> str:
        """Where the last good checkpoint lies."""
        if not self.checkpoints:
            return "Nothing is saved because the run has no workdir."
        if self.saved is None:
            return "There is no checkpoint before it."
        path = self.checkpoints.path(self.saved)
        return f"The last good checkpoint is {path} (step {self.saved})."

    def stopped(self, signal_name: str) -> Stopped:
        """Saves and returns the exception that ends the run."""
        self.save(self.replica())
        path = self.checkpoints.path(self.step) if self.checkpoints else None
        return Stopped(signal_name, self.step, path)


def _not_finite(tree: Any) -> list[str]:
    """The names of the leaves that hold a NaN or an infinity."""
    return [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(np.asarray(leaf)).all()
    ]
