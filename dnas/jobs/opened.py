"""Reading what a search or a training left in its directory, also elsewhere and while it runs.

Reading is not resuming: nothing is compared with the settings, the devices or the kernels of
this process, nothing is written, and no data set is needed.
"""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx

from dnas import discretize, spaces, tasks
from dnas.genotype import Genotype
from dnas.jobs import trajectory
from dnas.jobs.arguments import check_space
from dnas.runtime import checkpoints, fingerprint
from dnas.runtime.reading import brief, parse_json
from dnas.runtime.settings import check, differences
from dnas.runtime.workdir import DamagedError, Workdir, WorkdirError, resolved
from dnas.space import Decision, SearchSpace, Weighing
from dnas.tasks import Estimate, Task
from dnas.training import trainer
from dnas.training.recipe import rebuild
from dnas.training.supervised import supervised

_FACTS = ("test", "score", "parameters", "multiply_adds", "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedSearch:
    """What the directory of a search holds.

    Attributes:
      workdir: the directory.
      finished: whether the search came to its end; if not, all below is as of the last epoch that
        was written, of the stage that is under way where there are several.
      genotype: the architecture; None before the first epoch.
      decisions: the tables of decisions, by name.
      alphas: the architecture parameters, ``[rows, options]`` for each table.
      mix: the mixing weights that they stand for, of the same shapes.
      history: one dictionary for each epoch: epoch, step, losses and metrics of the task.
      trajectory: alphas and mixing weights over time; see `dnas.jobs.result.SearchResult`.
      report: how decided the mixing weights are, see `dnas.discretize.report`.
      facts: what report.json says further, such as ``'epoch'``, ``'selection'`` and
        ``'benchmark'``; empty before the end.
      settings: of the search, as its config.json holds them.
    """

    workdir: pathlib.Path
    finished: bool
    genotype: Genotype | None
    decisions: dict[str, Decision] = dataclasses.field(repr=False)
    alphas: dict[str, np.ndarray] = dataclasses.field(repr=False)
    mix: dict[str, np.ndarray] = dataclasses.field(repr=False)
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    trajectory: dict[str, np.ndarray] = dataclasses.field(repr=False)
    report: dict[str, Any] = dataclasses.field(repr=False)
    facts: dict[str, Any] = dataclasses.field(repr=False)
    settings: dict[str, Any] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedTraining:
    """What the directory of a training holds.

    Attributes:
      workdir: the directory.
      finished: whether the training came to its end; if not, the five attributes after `genotype`
        are None, and the network is that of the newest checkpoint.
      genotype: the architecture.
      test: metrics on the test split of the training's data set, as computed at the end.
      score: the metric that counts there, and its standard error.
      parameters: of the network without its auxiliary head.
      multiply_adds: of one example in that network.
      seconds: wall-clock time of the call that computed the result.
      seed: the training's seed.
      history: one dictionary for each epoch.
      settings: of the training, as its config.json holds them.
      own_space: the user's space, where `dnas.open` got one.
      own_task: the user's task, likewise.
    """

    workdir: pathlib.Path
    finished: bool
    genotype: Genotype
    test: dict[str, float] | None
    score: Estimate | None
    parameters: int | None
    multiply_adds: int | None
    seconds: float | None
    seed: int
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    settings: dict[str, Any] = dataclasses.field(repr=False)
    own_space: SearchSpace | None = dataclasses.field(default=None, repr=False)
    own_task: Task | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def task(self) -> Task:
        """What the network is for, with the normalisation of its inputs.

        Raises:
          WorkdirError: it is a user's own, and `dnas.open` did not get it.
        """
        facts = Workdir(self.workdir).read_json(trainer.NETWORK, _check_network)
        if facts is None:
            raise WorkdirError(
                f"workdir: {self.workdir} holds no {trainer.NETWORK}, which tells the network's "
                "task: an earlier version of dnas wrote it"
            )
        if self.own_task is not None:
            return self.own_task
        if facts["task"] not in tasks.TASKS:
            raise WorkdirError(
                f"workdir: the network in {self.workdir} is for the task {facts['task']!r}, which "
                "is not one of the package: give it, dnas.open(workdir, task=data.task())"
            )
        return tasks.rebuild(facts)

    @functools.cached_property
    def space(self) -> SearchSpace:
        """The space, with the channels and cells of the network.

        Raises:
          WorkdirError: it is a user's own, and `dnas.open` did not get it.
        """
        own = self.settings["space"].get("class")
        if self.own_space is not None:
            return self.own_space
        if own is not None:
            raise WorkdirError(
                f"workdir: the network in {self.workdir} is of the space {own!r}, which is not one "
                "of the package: give it, dnas.open(workdir, space=...)"
            )
        return spaces.rebuild(self.settings["space"])

    @functools.cached_property
    def network(self) -> nnx.Module:
        """The network with its weights, as in `dnas.training.trainer.TrainResult`; read late.

        Raises:
          WorkdirError: as for `space` and `task`.
          dnas.runtime.checkpoints.CheckpointError: there are no weights yet, or they are damaged.
        """
        training = supervised(
            self.space,
            self.genotype,
            self.task,
            recipe := rebuild(self.settings["train"]),
            total_steps=1,
        )
        state = jax.eval_shape(training.init, jax.random.key(0))
        if not recipe.averaging:  # the optimizer's state is for resuming, else it has the average
            state = state._replace(opt_state=None)
        _, state = checkpoints.read_part(self.workdir / "checkpoints", state)
        return training.network(jax.device_put(state))

    def check_finished(self) -> None:
        """Raises WorkdirError unless the training came to its end."""
        if not self.finished:
            done, epochs = len(self.history), self.settings["train"]["epochs"]
            raise WorkdirError(
                f"workdir: the training in {self.workdir} is not finished, {done} of {epochs} "
                "epochs are done; the command that began it goes on with it"
            )


def open(
    workdir: str | os.PathLike, space: SearchSpace | None = None, task: Task | None = None
) -> OpenedSearch | OpenedTraining:
    """Reads the directory of a search or of a training, whatever devices and kernels it ran on.

    It writes nothing and needs no data set; the run may be going on meanwhile.

    Args:
      workdir: the directory.
      space: of the network, where a training was of a user's own space; those of the package are
        rebuilt from the settings in the directory.
      task: of the network, likewise.

    Raises:
      dnas.runtime.workdir.WorkdirError: the directory holds no run, or several.
      ValueError: space or task is not that of the training.
    """
    path = resolved(workdir)
    settings = Workdir(path).read_json("config.json", _check_settings) if path.is_dir() else None
    if settings is None:
        what = "there is no such directory" if not path.is_dir() else "it holds no config.json"
        raise WorkdirError(f"workdir: {path} is not the directory of a run: {what}")
    if "search" in settings:
        return _search(path, settings)
    if "genotype" in settings and "seed" in settings:
        return _training(path, settings, space, task)
    if "stage" in settings:
        raise WorkdirError(f"workdir: {path} is a stage of a search: open {path.parent}")
    runs = sorted(
        str(config.parent.relative_to(path))
        for pattern in ("*/config.json", "*/*/config.json")
        for config in path.glob(pattern)
    )
    raise WorkdirError(
        f"workdir: {path} holds runs in folders, {', '.join(runs[:6])}{', ...' * (len(runs) > 6)}:"
        " open one of them"
    )


def _search(path: pathlib.Path, settings: dict[str, Any]) -> OpenedSearch:
    facts = Workdir(path).read_json("report.json", _check_report)
    # The files of all stages together come last.
    stages = sorted(path.glob("stage*"), key=lambda p: (len(p.name), p.name), reverse=True)
    folders = [p for p in (path, *stages) if (p / "alphas.npz").is_file()] or [path]
    files = Workdir(folders[0])
    decisions, alphas, mix, report = _tables(files, -1 if facts is None else facts["epoch"])
    genotype = folders[0] / "genotype.json" if facts is None else path / "genotype.json"
    return OpenedSearch(
        workdir=path,
        finished=facts is not None,
        genotype=Genotype.load(genotype) if genotype.is_file() else None,
        decisions=decisions,
        alphas=alphas,
        mix=mix,
        history=_history(folders[0]),
        trajectory=trajectory.read(files) or {},
        report=report,
        facts={} if facts is None else facts,
        settings=settings,
    )


def _tables(
    files: Workdir, epoch: int
) -> tuple[dict[str, Decision], dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Decisions, and of an epoch alphas, mixing weights and their report.

    Raises:
      DamagedError: alphas.npz does not have them.
    """
    arrays = files.read_arrays("alphas.npz") or {}
    names = ("chooses", "part", "rows", "options")
    known = {name: trajectory.tables(arrays, name) for name in names}
    try:
        decisions = {}
        for table in known["rows"]:
            chooses, part, rows, options = (known[name][table].tolist() for name in names)
            kind = Decision if chooses else Weighing
            decisions[table] = kind(part, tuple(rows), tuple(options))
        alphas, mix = (
            {name: array[epoch] for name, array in trajectory.tables(arrays, part).items()}
            for part in ("alphas", "mix")
        )
        return decisions, alphas, mix, discretize.report(mix, decisions)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"{files.path or ''}/alphas.npz is damaged, or does not fit report.json "
            f"({brief(error)}); the command that began the search writes both again"
        ) from error


def _check_settings(settings: Any) -> None:
    check(settings)
    if "genotype" not in settings or "seed" not in settings:
        return
    sections = ("space", "genotype", "train")
    if wrong := [name for name in sections if not isinstance(settings.get(name), dict)]:
        raise ValueError(f"{', '.join(wrong)}: expected dictionaries")
    try:
        Genotype.create(settings["space"].get("name"), settings["genotype"])
        rebuild(settings["train"])
    except (TypeError, ValueError) as error:
        raise ValueError(brief(error)) from error


def _check_report(report: Any) -> None:
    epoch = report.get("epoch") if isinstance(report, dict) else None
    if type(epoch) is not int or epoch < 0:
        raise ValueError("it does not tell the epoch")


def _check_network(network: Any) -> None:
    if not isinstance(network, dict) or not isinstance(network.get("task"), str):
        raise ValueError("it does not tell the network's task")
    if network["task"] in tasks.TASKS:
        tasks.rebuild(network)


def _training(
    path: pathlib.Path, settings: dict[str, Any], space: SearchSpace | None, task: Task | None
) -> OpenedTraining:
    if space is not None:
        check_space(space)
        given = json.loads(json.dumps({"space": fingerprint.of_space(space)}))
        code = ("space.class", "space.network")  # may have moved, or be of another Python
        if lines := differences({"space": settings["space"]}, given, code):
            raise ValueError(
                f"space: it is not the one of the training in {path}: {'; '.join(lines)}"
            )
    if task is not None:
        stored = Workdir(path).read_json(trainer.NETWORK, _check_network) or {}
        given = json.loads(json.dumps(task.describe()))
        if lines := differences({"task": stored}, {"task": given}, ()):
            raise ValueError(
                f"task: it is not the one of the training in {path}: {'; '.join(lines)}"
            )
    facts = Workdir(path).read_sealed(trainer.RESULT)
    known = {name: None if facts is None else facts.get(name) for name in _FACTS}
    if known["score"] is not None:
        known["score"] = Estimate(*known["score"])
    return OpenedTraining(
        workdir=path,
        finished=facts is not None,
        genotype=Genotype.create(settings["space"]["name"], settings["genotype"]),
        seed=settings["seed"],
        **known,
        history=_history(path),
        settings=settings,
        own_space=space,
        own_task=task,
    )


def _history(path: pathlib.Path) -> list[dict[str, float]]:
    """The epochs in metrics.jsonl; a last line that is being written is not there yet."""
    file = path / "metrics.jsonl"
    texts = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    lines = []
    for number, text in enumerate((t for t in texts if t.endswith(b"\n")), 1):
        try:
            line = parse_json(text)
            if not isinstance(line, dict) or line.get("epoch") != number:
                raise ValueError(f"expected epoch {number}, got {text[:40]!r}")
        except ValueError as error:
            raise DamagedError(
                f"line {number} of {file} is damaged ({brief(error)}); the command that began the "
                "run writes that file again"
            ) from error
        lines.append(line)
    return lines
