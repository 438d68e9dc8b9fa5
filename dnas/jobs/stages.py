"""The stages of a search, most often one: training loops, one after the other."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas import data as datasets
from dnas import sequences
from dnas.choices import ones
from dnas.jobs import trajectory
from dnas.jobs.trajectory import Recorder, tables
from dnas.jobs.watch import Watch
from dnas.nn.supernet.inherit import inherit, inherit_alphas
from dnas.presets.preset import Preset
from dnas.presets.stages import Span, spans
from dnas.runtime import initialize, loop
from dnas.runtime.parallel import Parallel
from dnas.runtime.workdir import Workdir
from dnas.space import SearchSpace
from dnas.tasks import Task, summary

History = list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all stages share.

    Attributes:
      data: the data set.
      seed: of everything random.
      batch_size: examples of each half in a step, over all devices.
      augment: what is done to examples in training.
      devices: how steps are compiled.
      chunk: steps a dispatch; see `dnas.runtime.loop.run`.
      progress: whether to show progress.
    """

    data: datasets.Dataset
    seed: int
    batch_size: int
    augment: datasets.Augment
    devices: Parallel
    chunk: int | None
    progress: bool

    @functools.cached_property
    def task(self) -> Task:
        """What the supernet is for."""
        return self.data.task(self.augment)

    def keys(self, stage: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """PRNG keys of a stage's initialisation, its order of examples, and its selection."""
        init_key, feed_key = jax.random.split(jax.random.key(self.seed))
        if stage:
            init_key, feed_key = (jax.random.fold_in(key, stage) for key in (init_key, feed_key))
        return init_key, feed_key, jax.random.fold_in(feed_key, 2**31)


@dataclasses.dataclass(frozen=True)
class Searched:
    """What a stage ended with.

    Attributes:
      space: that was searched.
      preset: the stage's settings.
      method: the search as functions for one device.
      feed: where its batches came from.
      state: the last, with the alphas of `epoch`.
      steps: the number of steps that had been taken when alphas were so.
      epoch: whose alphas are the result.
      initial: alphas as the stage would begin with them, did it not go on from another.
      history: one dictionary for each epoch.
      trajectory: alphas and mixing weights; the first entry is the initialisation.
      key: for a selection.
      going_on: makes a search that goes on from `state` with the learning rate of selections.
    """

    space: SearchSpace
    preset: Preset
    method: Any
    feed: datasets.Feed
    state: Any
    steps: int
    epoch: int
    initial: dict[str, np.ndarray]
    history: History
    trajectory: dict[str, np.ndarray]
    key: jax.Array
    going_on: Callable[[], Any]

    def at_end(self, part: str) -> dict[str, np.ndarray]:
        """The tables, ``'alphas'`` or ``'mix'``, that are the result."""
        return {name: x[self.epoch] for name, x in tables(self.trajectory, part).items()}


def check(preset: Preset, space: SearchSpace, epochs: int, task: Task) -> None:
    """Raises ValueError unless space and task suit the preset and its parts, the epochs its stages.

    Nothing is compiled. The spaces of later stages, which depend on what the stages before them
    find, are checked as they are when nothing is preferred.
    """
    spans(preset.stages, epochs)
    for settings, changed in _every_stage(preset, preset.modified(space)):
        settings.check(changed, task)


def _every_stage(preset: Preset, space: SearchSpace) -> Iterator[tuple[Preset, SearchSpace]]:
    """Settings and space of each stage, as if the ones before had ended with equal weights."""
    if not preset.stages:
        yield preset, space
    before = (space, {})
    for stage in preset.stages:
        changed = stage.changed(space, *before)
        yield preset.of_stage(stage), changed
        before = (changed, ones(changed))


def run(
    setting: Setting, preset: Preset, space: SearchSpace, epochs: int, files: Workdir
) -> Searched:
    """Runs all stages of a search; several have directories of their own.

    Args:
      setting: what they share.
      preset: the method.
      space: the user's.
      epochs: of all stages together.
      files: the directory of the search.

    Returns:
      The last stage, with the history of all.
    """
    space = preset.modified(space)
    stages = preset.stages
    if not stages:
        return _run_stage(setting, preset, space, files, epochs)
    history: list[dict[str, Any]] = []
    done: Searched | None = None
    offset = 0
    for number, (stage, span) in enumerate(zip(stages, spans(stages, epochs), strict=True)):
        before = (space, {}) if done is None else (done.space, done.at_end("mix"))
        name = f"stage{number + 1}"
        with files.subdirectory(name, {"stage": number + 1}) as folder:
            done = _run_stage(
                setting,
                preset.of_stage(stage),
                stage.changed(space, *before),
                folder,
                span.last - span.first,
                number=number,
                span=span,
                before=done if stage.goes_on else None,
            )
        for line in done.history:
            step = line["step"] + offset * done.feed.steps_per_epoch
            history.append({**line, "epoch": line["epoch"] + offset, "step": step})
        offset += span.last - span.first
    files.write_lines("metrics.jsonl", history)
    assert done is not None  # there is a stage
    trajectory.write(files, done.trajectory, done.space)
    return dataclasses.replace(done, history=history)


def _run_stage(
    setting: Setting,
    preset: Preset,
    space: SearchSpace,
    files: Workdir,
    epochs: int,
    *,
    number: int = 0,
    span: Span | None = None,
    before: Searched | None = None,
) -> Searched:
    """Runs one stage, or what is left of it."""
    init_key, feed_key, select_key = setting.keys(number)
    data, devices = setting.data, setting.devices
    feed = data.feed(data.halves(setting.seed), setting.batch_size, feed_key)

    def build(preset: Preset, axis_name: str | None = None) -> Any:
        return preset.build(
            space,
            setting.task,
            steps_per_epoch=feed.steps_per_epoch,
            epochs=epochs if span is None else span.epochs,
            carry=sequences.initial_carry(space, setting.batch_size),
            axis_name=axis_name,
            span=span,
        )

    method = build(preset, devices.axis_name)
    alone = method if devices.axis_name is None else build(preset)
    state = initialize.compiled(method.init)(init_key)
    initial = {name: np.array(x) for name, x in state.alphas.items()}
    if before is not None and span is not None:
        step = span.first * feed.steps_per_epoch
        state = _inherited(before, space, state, step, setting.task)
    recorder = Recorder(space, files, jax.jit(method.mix), state)
    watch = Watch(preset, space, recorder, alone, feed)

    def on_epoch(epoch: int, state: Any, means: dict[str, float]) -> dict[str, float]:
        return recorder.record(epoch, state, means) | watch.measure(epoch, state)

    outcome = loop.run(
        state,
        devices.advance(loop.watched(method.step)),
        feed,
        epochs=epochs,
        files=files,
        parallel=devices,
        kept=recorder,
        on_epoch=on_epoch,
        ended=watch.ended,
        summary=summary(setting.task),
        chunk=setting.chunk,
        progress=setting.progress,
        title="search" if span is None else f"search, stage {number + 1}",
    )
    recorder.record(outcome.epochs, outcome.state, {})  # a resumed run may have lost its files
    epoch, state = watch.epoch or outcome.epochs, outcome.state
    if epoch < outcome.epochs:
        then = tables(recorder.trajectory, "alphas")
        state = state._replace(alphas={name: jnp.asarray(x[epoch]) for name, x in then.items()})
    return Searched(
        space=space,
        preset=preset,
        method=alone,
        feed=feed,
        state=state,
        steps=int(state.step) - (outcome.epochs - epoch) * feed.steps_per_epoch,
        epoch=epoch,
        initial=initial,
        history=outcome.history,
        trajectory=recorder.trajectory,
        key=select_key,
        going_on=lambda: build(preset.finetuning()),
    )


def _inherited(before: Searched, space: SearchSpace, state: Any, step: int, task: Task) -> Any:
    """The first state of a stage that goes on from another."""
    old = before.state

    def weights(old_tree, new_tree):
        return inherit(before.space, old_tree, space, new_tree, task)

    weight_opt = optax.tree.set(state.weight_opt, count=jnp.asarray(step, jnp.int32))
    momentum = optax.tree.get(old.weight_opt, "trace")
    if momentum is not None:
        fresh = optax.tree.get(weight_opt, "trace")
        weight_opt = optax.tree.set(weight_opt, trace=weights(momentum, fresh))
    return state._replace(
        params=weights(old.params, state.params),
        alphas=inherit_alphas(before.space, old.alphas, space, state.alphas),
        weight_opt=weight_opt,
        step=jnp.asarray(step, jnp.int32),
    )
