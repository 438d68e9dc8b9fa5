"""The search: from a space, a data set and a method to a genotype."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from dnas import checks, discretize
from dnas import data as datasets
from dnas import parallel as parallels
from dnas.benchmarks import NASBench201, nas_bench_201
from dnas.genotype import Genotype
from dnas.jobs import fingerprint, initialize, loop
from dnas.jobs.workdir import Workdir, open_workdir
from dnas.space import Mix, SearchSpace, Task

# Settings that do not influence the search: they may change between a run and its resumption.
FREE = ("compare_random", "data.data_dir", "table", "train")


class Preset(Protocol):
    """A method with its settings, such as `dnas.presets.darts()`.

    Attributes:
      epochs: epochs of a search unless the caller says otherwise.
      batch_size: images of each half in a step, likewise.
    """

    epochs: int
    batch_size: int

    def build(self, space: SearchSpace, task: Task, **details: Any) -> Any:
        """Makes the `dnas.bilevel.Search` for a space and a task."""


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      genotype: the architecture.
      alphas: the last architecture parameters, ``[rows, options]`` for each table.
      mix: the mixing weights that they stand for, of the same shapes.
      history: one dictionary for each epoch: epoch, step, mean losses and accuracies.
      trajectory: alphas and mixing weights over time, ``[epochs + 1, rows, options]`` by
        ``'alphas/<table>'`` and ``'mix/<table>'``; the first entry is the initialisation.
      report: how decided the mixing weights are, see `dnas.discretize.report`.
      warning: what `dnas.discretize.collapse_warning` says, or None.
      benchmark: what the table of a tabular benchmark says about the genotype (its number,
        accuracies in per cent, rank by test accuracy), or None.
      workdir: where the files lie, or None.
    """

    genotype: Genotype
    alphas: dict[str, np.ndarray] = dataclasses.field(repr=False)
    mix: dict[str, np.ndarray] = dataclasses.field(repr=False)
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    trajectory: dict[str, np.ndarray] = dataclasses.field(repr=False)
    report: dict[str, Any] = dataclasses.field(repr=False)
    warning: str | None = None
    benchmark: dict[str, float] | None = None
    workdir: pathlib.Path | None = None


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
    table: NASBench201 | None = None,
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
      seed: of the initialisation, the halves, the order of images and all noise.
      workdir: the directory to write to and resume from; None writes nothing.
      epochs: epochs to search; the preset's by default.
      batch_size: images of each half in a step, over all devices; the preset's by default.
      train_limit: use only so many images of the train split.
      augment: what is done to images; nothing but normalisation by default.
      parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
      table: a tabular benchmark to look the result up in, `dnas.benchmarks.NASBench201`.
      progress: whether to show progress.
      chunk: steps a dispatch; see `dnas.jobs.loop.run`.
      config: the settings to write as config.json and to compare with those of the directory;
        by default they are made of the arguments. What tells the data from others is added.

    Returns:
      The genotype, the alphas, and how they came about.

    Raises:
      ValueError: an argument does not fit, by name; raised before anything is compiled.
      dnas.jobs.workdir.ContradictionError: the directory belongs to other settings.
      dnas.jobs.loop.Stopped: SIGTERM or Ctrl-C came; the state is saved.
      dnas.jobs.loop.DivergedError: a loss or a weight became NaN or Inf.
    """
    epochs = preset.epochs if epochs is None else epochs
    batch_size = preset.batch_size if batch_size is None else batch_size
    augment = augment or datasets.Augment()
    checks.whole("seed", seed, least=0)
    checks.whole("epochs", epochs)
    checks.whole("batch_size", batch_size)
    for name, value in {"train_limit": train_limit, "chunk": chunk}.items():
        if value is not None:
            checks.whole(name, value)
    if train_limit is not None:
        limited = datasets.limit(data.train, train_limit, seed)
        data = dataclasses.replace(data, train=limited)
    check_batch(data, batch_size, parallel)
    check_augment(data, augment)
    if table is not None:
        check_table(table, space, data.name)
    task = Task(data.image_shape, data.classes)
    devices = parallels.make(parallel)
    preprocess = datasets.preprocess(augment, data.mean, data.std)

    if config is None:
        config = describe(space, data, preset, seed, augment)
    config = {**config, "parallel": fingerprint.of_devices(parallel)}
    config["data"] = {**config.get("data", {}), **fingerprint.of_data(data)}
    config["search"] = {**config.get("search", {}), "epochs": epochs, "batch_size": batch_size}
    files = open_workdir(workdir, config, FREE)

    init_key, feed_key = jax.random.split(jax.random.key(seed))
    feed = datasets.make_feed(datasets.halve(data.train, seed), batch_size, feed_key)
    method = preset.build(
        space,
        task,
        steps_per_epoch=feed.steps_per_epoch,
        epochs=epochs,
        preprocess=preprocess,
        axis_name=devices.axis_name,
    )
    state = initialize.compiled(method.init)(init_key)
    recorder = _Recorder(space, files, jax.jit(method.mix), state.alphas)
    outcome = loop.run(
        state,
        devices.advance(loop.watched(method.step, "train_loss")),
        feed,
        epochs=epochs,
        files=files,
        parallel=devices,
        on_epoch=recorder.record,
        chunk=chunk,
        progress=progress,
        title="search",
    )
    recorder.record(epochs, outcome.state, {})  # a resumed run may have lost its files
    result = _conclude(space, data.name, files, recorder.trajectory, outcome.history, table)
    _draw(space, result)
    return result


def check_batch(data: datasets.Dataset, batch_size: int, parallel: str) -> None:
    """Raises ValueError unless halves of the train split hold a batch, and devices divide it."""
    images = len(data.train)
    if not 1 <= batch_size <= images // 2:
        raise ValueError(
            f"batch_size={batch_size}: expected 1 to {images // 2}, half of {images} train images"
        )
    parallels.make(parallel).check_batch(batch_size)


def check_augment(data: datasets.Dataset, augment: datasets.Augment) -> None:
    """Raises ValueError unless the images are large enough for the augmentation."""
    images = jax.ShapeDtypeStruct((1, *data.image_shape), np.uint8)
    ones = (1.0,) * data.image_shape[-1]  # the real mean would decode all images
    preprocess = datasets.preprocess(augment, ones, ones)
    jax.eval_shape(preprocess, jax.random.key(0), images)  # traces; compiles nothing


def check_table(table: NASBench201, space: SearchSpace, data_name: str) -> None:
    """Raises ValueError unless the table can tell what a search of the space wants to know."""
    decisions = {name: (set(d.rows), set(d.options)) for name, d in space.decisions.items()}
    edges, options = set(nas_bench_201.EDGES), set(nas_bench_201.OPTIONS)
    rows, candidates = decisions.get("cell", (set(), set()))
    if set(decisions) != {"cell"} or rows != edges or not candidates <= options:
        raise ValueError(
            f"table: it knows cells with the edges {nas_bench_201.EDGES} and operations of "
            f"{nas_bench_201.OPTIONS}; the space {space.name!r} has {dict(space.decisions)}"
        )
    _look_up(table, data_name, 0)


def describe(
    space: SearchSpace,
    data: datasets.Dataset,
    preset: Preset,
    seed: int,
    augment: datasets.Augment,
) -> dict[str, Any]:
    """The settings of a search as plain data, by which a directory recognises its run."""
    return {
        "seed": seed,
        "space": {"name": space.name, **fingerprint.plain(space)},
        "data": {**fingerprint.of_data(data), **augment._asdict()},
        "search": {"preset": type(preset).__name__, **fingerprint.plain(preset)},
    }


class _Recorder:
    """Collects alphas and mixing weights, and writes them with the genotype every epoch."""

    def __init__(
        self, space: SearchSpace, files: Workdir, mix: Callable[[Any], Mix], alphas: Mapping
    ):
        self._space, self._files, self._mix = space, files, mix
        stored = files.read_arrays("alphas.npz")
        self.trajectory = stored or {n: a[None] for n, a in self._entry(alphas).items()}

    def record(self, epoch: int, state: Any, means: dict[str, float]) -> dict[str, float]:
        """Takes in an epoch; one that a resumed run repeats replaces what it wrote before."""
        entry = self._entry(state.alphas)
        lost = epoch - min(map(len, self.trajectory.values()))
        if lost > 0:
            warnings.warn(
                f"alphas.npz lacks {lost} of the epochs before {epoch}; they become NaN",
                stacklevel=2,
            )
        self.trajectory = {
            name: np.concatenate([_padded(self.trajectory[name][:epoch], epoch), array[None]])
            for name, array in entry.items()
        }
        self._files.write_arrays("alphas.npz", self.trajectory)
        mix = last(self.trajectory, "mix")
        self._files.write_text("genotype.json", self._space.discretize(mix).to_json())
        report = discretize.report(mix, self._space.decisions)
        return {f"relative_entropy/{name}": t["relative_entropy"] for name, t in report.items()}

    def _entry(self, alphas: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        parts = {"alphas": alphas, "mix": self._mix(alphas)}
        # Copies: the state behind them is donated to the next step.
        return {f"{p}/{name}": np.array(x) for p, tree in parts.items() for name, x in tree.items()}


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """NaN behind what is there, so that positions stay epochs."""
    lost = np.full((length - len(array), *array.shape[1:]), np.nan, array.dtype)
    return np.concatenate([array, lost])


def tables(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a trajectory, ``'alphas'`` or ``'mix'``, by table."""
    prefix = f"{part}/"
    return {n.removeprefix(prefix): x for n, x in trajectory.items() if n.startswith(prefix)}


def last(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The last entries of `tables`."""
    return {name: array[-1] for name, array in tables(trajectory, part).items()}


def _conclude(
    space: SearchSpace,
    data_name: str,
    files: Workdir,
    trajectory: dict[str, np.ndarray],
    history: list[dict[str, float]],
    table: NASBench201 | None,
) -> SearchResult:
    """Makes the result of the last epoch and writes its report."""
    mix = last(trajectory, "mix")
    genotype = space.discretize(mix)
    report = discretize.report(mix, space.decisions)
    result = SearchResult(
        genotype=genotype,
        alphas=last(trajectory, "alphas"),
        mix=mix,
        history=history,
        trajectory=trajectory,
        report=report,
        warning=discretize.collapse_warning(report, genotype),
        workdir=files.path,
    )
    facts = {"report": report, "warning": result.warning, "benchmark": None}
    files.write_json("report.json", facts)
    if table is not None:  # whatever may go wrong there, the report is safe
        facts["benchmark"] = _look_up(table, data_name, table.number(genotype))
        files.write_json("report.json", facts)
    return dataclasses.replace(result, benchmark=facts["benchmark"])


def _look_up(table: NASBench201, data_name: str, number: int) -> dict[str, Any]:
    """Accuracies in per cent and rank; CIFAR-10's where the table does not know the data set."""
    name = data_name if data_name in table.datasets else "cifar10"
    return {
        "dataset": name,
        "number": number,
        "test_accuracy": float(table.accuracy(number, name)),
        "valid_accuracy": float(table.accuracy(number, name, "valid")),
        "rank": int(table.rank(number, name)),
    }


def _bridged(array: np.ndarray) -> np.ndarray:
    """Lost epochs by straight lines between those that are known, for pictures only."""
    lost = np.isnan(array).any(axis=(1, 2))
    where, known = np.flatnonzero(lost), np.flatnonzero(~lost)
    bridged = array.reshape(len(array), -1).copy()
    for column in bridged.T:  # views: they write to `bridged`
        column[where] = np.interp(where, known, column[known])
    return bridged.reshape(array.shape)


def _draw(space: SearchSpace, result: SearchResult) -> None:
    """Draws cell and mixing weights into the directory; what fails is only a warning."""
    if result.workdir is None:
        return
    history = {name: _bridged(x) for name, x in tables(result.trajectory, "mix").items()}
    try:
        from dnas import viz

        figures = {
            "cell.png": viz.draw_genotype(result.genotype),
            "mix.png": viz.plot_alphas(history, space.decisions),
        }
        for name, figure in figures.items():
            viz.save(figure, result.workdir / name)
    except Exception as error:
        warnings.warn(f"no pictures: {error!r}", stacklevel=2)
