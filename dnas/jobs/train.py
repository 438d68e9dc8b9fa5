"""Training the network of one genotype from scratch, and testing it."""

import dataclasses
import functools
import math
import os
import time
import warnings
from typing import Any

import jax
from flax import nnx

from dnas import checks, costs, sequences, spaces
from dnas import data as datasets
from dnas.genotype import Genotype
from dnas.gradient import optimizers
from dnas.jobs import arguments, divergence
from dnas.jobs import recipe as recipes
from dnas.jobs.recipe import Recipe
from dnas.jobs.supervised import Training, supervised
from dnas.jobs.tally import make_evaluate
from dnas.runtime import fingerprint, initialize, loop, memory
from dnas.runtime import parallel as parallels
from dnas.runtime.progress import heeds_progress
from dnas.runtime.workdir import DamagedError, Workdir, open_workdir
from dnas.space import SearchSpace
from dnas.tasks import Score, Task, batch_of, summary

RESULT = "result.json"
NETWORK = "network.json"  # what else it takes to use the network without its data set


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What came of a training.

    Attributes:
      test: what the last weights reach on the test split, by the names of the task's metrics.
      score: the metric that counts there, and its standard error.
      parameters: of the network without its auxiliary head, as publications count them.
      multiply_adds: of one example in that network; see `dnas.costs.count_multiply_adds`.
      seconds: wall-clock time of the call that computed the result.
      seed: the training's seed.
      history: one dictionary for each epoch, with the metrics on training batches.
      network: the trained network, ``network(inputs) -> NetworkOutput`` for inputs as the task
        prepares them; a module holds arrays, so it is not compared.
      task: what the network is for, with the normalisation of its inputs.
    """

    test: dict[str, float]
    score: Score
    parameters: int
    multiply_adds: int
    seconds: float
    seed: int
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    network: nnx.Module = dataclasses.field(repr=False, compare=False)
    task: Task = dataclasses.field(repr=False)


class Trainer:
    """Trains the network of one genotype, for several seeds with one compilation.

    It assumes what `check` checks.

    Args:
      space: builds the network.
      genotype: which one.
      data: the data set; its test split is read by nothing but the final evaluation.
      recipe: how the network is trained.
      parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
    """

    def __init__(
        self,
        space: SearchSpace,
        genotype: Genotype,
        data: datasets.Dataset,
        recipe: Recipe,
        parallel: str = "none",
    ):
        self._space, self._genotype, self._data, self._recipe = space, genotype, data, recipe
        self._parallel = parallels.make(parallel)
        self._config = describe(space, genotype, data, recipe, parallel)
        self._task = data.task(recipe.augment)
        axis_name = self._parallel.axis_name
        training = _training(space, genotype, data, recipe, self._task, axis_name)
        self._init = initialize.compiled(training.init)
        self._advance = self._parallel.advance(loop.watched(training.step))
        self._evaluate = make_evaluate(training.apply, self._task, space)
        self._network = training.network

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        network = self._space, self._genotype, self._task
        return {
            "parameters": costs.count_parameters(*network),
            "multiply_adds": costs.count_multiply_adds(*network),
        }

    def _averaging(self) -> dict[str, Any]:
        """What the loop does after every epoch of a recipe that averages weights."""
        data: Any = self._data
        recipe = self._recipe
        if not recipe.averaging:
            return {}

        def validate(epoch: int, state: Any, means: dict[str, float]) -> dict[str, float]:
            batches = data.evaluation_batches(data.valid, recipe.batch_size)
            found = self._evaluate(state, batches).metrics
            return {f"valid_{name}": value for name, value in found.items()}

        def between(history: list[dict[str, float]], state: Any) -> Any:
            losses = [line["valid_loss"] for line in history]
            opt_state = optimizers.begin_averaging(state.opt_state, losses, recipe.averaging)
            return state._replace(opt_state=opt_state)

        return {"on_epoch": validate, "between": between}

    def run(
        self,
        seed: int = 0,
        workdir: str | os.PathLike | None = None,
        *,
        progress: bool = True,
        chunk: int | None = None,
        title: str = "train",
    ) -> TrainResult:
        """Trains with one seed; see `train`."""
        began = time.monotonic()
        data, recipe = self._data, self._recipe
        config = {"seed": seed, **self._config}
        with open_workdir(workdir, config) as files, divergence.explained(config):
            files.write_json(NETWORK, self._task.describe())
            state_key, feed_key = jax.random.split(jax.random.key(seed))
            outcome = loop.run(
                self._init(state_key),
                self._advance,
                data.feed([data.train], recipe.batch_size, feed_key),
                epochs=recipe.epochs,
                parallel=self._parallel,
                files=files,
                summary=summary(self._task),
                **self._averaging(),
                chunk=chunk,
                progress=progress,
                title=title,
            )
            facts = known_result(files)
            if facts is None:
                batches = data.evaluation_batches(data.test, recipe.batch_size)
                evaluation = self._evaluate(outcome.state, batches)
                facts = {
                    "test": evaluation.metrics,
                    "score": list(evaluation.score),
                    **self._counts,
                    "seconds": time.monotonic() - began,
                    "seed": seed,
                }
                files.write_sealed(RESULT, facts)
        known: dict[str, Any] = {**facts, "score": Score(*facts["score"])}
        return TrainResult(
            **known,
            history=outcome.history,
            network=self._network(outcome.state),
            task=self._task,
        )


def known_result(files: Workdir) -> dict[str, Any] | None:
    """What result.json says of a finished training; None where it is not there, or damaged.

    Args:
      files: the training's directory.
    """
    try:
        return files.read_sealed(RESULT)
    except DamagedError as error:
        warnings.warn(f"{error}; the test split is read again", stacklevel=2)
        return None


@heeds_progress
def train(
    space: SearchSpace,
    genotype: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    parallel: str = "none",
    progress: bool = True,
    chunk: int | None = None,
) -> TrainResult:
    """Trains the network of a genotype from scratch, on the whole train split.

    The test split is evaluated once, at the end, from the last weights; nothing else reads
    the test split. With a directory, the same call again resumes where it stopped, bit for bit.

    Args:
      space: builds the network; its channels and cells are those of the network.
      genotype: the architecture.
      data: the data set.
      recipe: the settings, such as ``darts_recipe()``.
      seed: of the initialisation, the order of examples, augmentation and dropped paths.
      workdir: the directory to write to and resume from; None writes nothing.
      parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
      progress: whether to show progress.
      chunk: steps a dispatch; see `dnas.runtime.loop.run`.

    Returns:
      The test metrics, the history and the trained network.

    Raises:
      ValueError: an argument does not fit, by name; raised before anything is compiled.
      dnas.runtime.workdir.WorkdirError: the directory belongs to other settings, another process
        writes to it, or it cannot be written.
      dnas.runtime.loop.Stopped: SIGTERM or Ctrl-C came; the state is saved.
      dnas.runtime.loop.DivergedError: a loss or a weight became NaN or Inf.
    """
    checks.seed("seed", seed)
    if chunk is not None:
        checks.whole("chunk", chunk)
    check(space, genotype, data, recipe, parallel)
    data.check()
    trainer = Trainer(space, genotype, data, recipe, parallel)
    return trainer.run(seed, workdir, progress=progress, chunk=chunk)


def check(
    space: SearchSpace,
    genotype: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    parallel: str = "none",
) -> None:
    """Checks that arguments of `train` fit each other, without compiling or decoding anything.

    Args:
      space: as `train` gets it.
      genotype: likewise; any other of the space passes and fails alike.
      data: likewise.
      recipe: likewise.
      parallel: likewise.

    Raises:
      ValueError: they do not; the message names the culprit.
    """
    arguments.check_space(space)
    arguments.check_genotype(genotype)
    arguments.check_data(data)
    arguments.check_recipe(recipe)
    space.validate(genotype)
    devices = parallels.make(parallel)
    sequences.check_alone(space, parallel)
    devices.check_batch(recipe.batch_size)
    if len(data.train) < recipe.batch_size:
        raise ValueError(
            f"batch_size must be at most {len(data.train)}, the number of train examples, "
            f"got {recipe.batch_size}"
        )
    if recipe.averaging and not (isinstance(data, datasets.Validated) and data.valid):
        raise ValueError(
            f"averaging={recipe.averaging}: expected 0, since the data set {data.name!r} has no "
            "validation split; a text has one in valid.txt, or by valid_share"
        )
    # Without statistics, for which examples would be decoded.
    task = data.task(recipe.augment, measured=False)
    _check_auxiliary(space, genotype, task, recipe)
    checks.steps(recipe.epochs, len(data.train) // recipe.batch_size)
    # Tracing a step meets all that examples can be too small for.
    training = _training(space, genotype, data, recipe, task)
    size = recipe.batch_size // devices.devices
    batch = batch_of(task.examples, size)
    state = jax.eval_shape(training.init, jax.random.key(0))
    memory.check_weights("network", sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)))
    jax.eval_shape(training.step, state, batch)
    recipes.warn_of_stem(space, recipe)


def _check_auxiliary(space: SearchSpace, genotype: Genotype, task: Task, recipe: Recipe) -> None:
    """Raises ValueError where a head is asked for that the space does not have."""

    def build(**head):
        return nnx.eval_shape(lambda: space.network(genotype, task, rngs=nnx.Rngs(0), **head))

    build()  # what is wrong without the head is not the head's fault
    if not recipe.auxiliary_weight:
        return
    try:
        build(auxiliary=True)
    except ValueError as error:
        raise ValueError(
            f"auxiliary_weight must be 0 here, got {recipe.auxiliary_weight}: {error}"
        ) from error


def _training(
    space: SearchSpace,
    genotype: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    task: Task,
    axis_name: str | None = None,
) -> Training:
    """`supervised` on a data set."""
    return supervised(
        space,
        genotype,
        task,
        recipe,
        total_steps=recipe.epochs * (len(data.train) // recipe.batch_size),
        axis_name=axis_name,
    )


def describe(
    space: SearchSpace,
    genotype: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    parallel: str,
) -> dict[str, Any]:
    """The settings of trainings as plain data, by which a directory recognises its run.

    One training has a seed beside them. All arguments are those of `train`.
    """
    # The code of a user's own space is part of what is trained.
    code = {} if spaces.known(space) else {"network": fingerprint.plain(type(space).network)}
    return {
        "space": fingerprint.of_space(space) | code,
        "genotype": {part: genotype[part] for part in genotype.parts()},
        "data": fingerprint.of_data(data),
        "train": fingerprint.attributes(recipe),
        "parallel": fingerprint.of_devices(parallel),
    }
