"""The search: from a space, a data set and a method to a genotype."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from dnas import checks, sequences
from dnas import data as datasets
from dnas.evaluators import Lookup
from dnas.jobs import arguments, stages
from dnas.jobs.result import SearchResult, conclude
from dnas.presets.preset import Preset
from dnas.runtime import divergence, fingerprint
from dnas.runtime import parallel as parallels
from dnas.runtime.progress import heeds_progress
from dnas.runtime.workdir import open_workdir
from dnas.space import SearchSpace

# What the user wrote, noted beside what it stands for; only that is compared.
FREE = ("given",)


@heeds_progress
def search(
    space: SearchSpace,
    data: datasets.Dataset,
    preset: Preset,
    *,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    train_limit: int | None = None,
    augment: datasets.Augment | None = None,
    parallel: str = "none",
    table: Lookup | None = None,
    progress: bool = True,
    chunk: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Searches an architecture by gradients (Liu et al., 2019, algorithm 1).

    The train split is halved: one part trains the weights, the other the architecture. The test
    split is not touched. With a directory, everything is written there every epoch, and the
    same call again resumes where it stopped, bit for bit.

    Args:
      space: the search space.
      data: the data set.
      preset: the method, such as ``dnas.presets.darts()``.
      seed: of the initialisation, the halves, the order of examples and all noise.
      workdir: the directory to write to and resume from; None writes nothing.
      epochs: epochs to search; the preset's by default.
      batch_size: examples of each half in a step, over all devices; the preset's by default.
      train_limit: use only so many examples of the train split.
      augment: what is done to train examples; nothing but normalisation by default.
      parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
      table: a tabular benchmark to look the result up in, `dnas.benchmarks.NASBench201`.
      progress: whether to show progress.
      chunk: steps a dispatch; see `dnas.runtime.loop.run`.
      config: what the user wrote, noted in config.json as `given`. What a directory is compared
        with are the settings that all arguments stand for, whoever wrote them.

    Returns:
      The genotype, the alphas, and how they came about.

    Raises:
      ValueError: an argument does not fit, by name; raised before anything is compiled.
      dnas.runtime.workdir.WorkdirError: the directory belongs to other settings, another process
        writes to it, or it cannot be written.
      dnas.runtime.loop.Stopped: SIGTERM or Ctrl-C came; the state is saved.
      dnas.runtime.loop.DivergedError: a loss or a weight became NaN or Inf.
    """
    arguments.check_space(space)
    arguments.check_data(data)
    arguments.check_preset(preset)
    epochs = preset.epochs if epochs is None else epochs
    batch_size = preset.batch_size if batch_size is None else batch_size
    augment = datasets.Augment() if augment is None else augment
    arguments.check_augment(augment)
    checks.seed("seed", seed)
    _check_counts(epochs=epochs, batch_size=batch_size, train_limit=train_limit, chunk=chunk)
    if train_limit is not None:
        limited = datasets.limit(data.train, train_limit, seed)
        data = dataclasses.replace(data, train=limited)
    sequences.check_alone(space, parallel)
    check_batch(data, batch_size, parallel)
    checks.steps(epochs, len(data.train) // 2 // batch_size)
    task = data.task(augment, measured=False)
    arguments.check_prepared(task)
    if table is not None:
        check_table(table, space, data.name)
    stages.check(preset, space, epochs, task)
    data.check()  # may read all examples, so it comes last
    settings = describe(space, data, preset, seed, augment, parallel)
    settings["search"] |= {"epochs": epochs, "batch_size": batch_size}
    settings |= {} if config is None else {"given": config}
    setting = stages.Setting(
        data, seed, batch_size, augment, parallels.make(parallel), chunk, progress
    )
    with open_workdir(workdir, settings, FREE) as files, divergence.explained(settings):
        searched = stages.run(setting, preset, space, epochs, files)
        return conclude(searched, data, augment, files, table, progress)


def _check_counts(**counts: Any) -> None:
    """Raises ValueError unless all that are given are whole numbers from 1."""
    for name, value in counts.items():
        if value is not None:
            checks.whole(name, value)


def check_batch(data: datasets.Dataset, batch_size: int, parallel: str) -> None:
    """Raises ValueError unless halves of the train split hold a batch, and devices divide it."""
    examples = len(data.train)
    if not 1 <= batch_size <= examples // 2:
        raise ValueError(
            f"batch_size={batch_size}: expected 1 to {examples // 2}, half of {examples} "
            "train examples"
        )
    parallels.make(parallel).check_batch(batch_size)


def check_table(table: Lookup, space: SearchSpace, data_name: str) -> None:
    """Raises ValueError unless the table can tell what a search of the space wants to know."""
    arguments.check_table(table)
    table.check(space, data_name)


def describe(
    space: SearchSpace,
    data: datasets.Dataset,
    preset: Preset,
    seed: int,
    augment: datasets.Augment,
    parallel: str,
) -> dict[str, Any]:
    """The settings of a search as plain data, by which a directory recognises its run."""
    return {
        "seed": seed,
        "space": fingerprint.of_space(space),
        "data": {**fingerprint.of_data(data), "augment": fingerprint.attributes(augment)},
        "search": {"preset": type(preset).__name__, **fingerprint.attributes(preset)},
        "parallel": fingerprint.of_devices(parallel),
    }
