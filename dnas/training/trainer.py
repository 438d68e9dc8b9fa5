"""The training of one genotype's network, for several seeds with one compilation."""

import dataclasses
import functools
import os
import time
import warnings
from typing import Any

import jax
from flax import nnx

from dnas import costs, spaces
from dnas import data as datasets
from dnas.genotype import Genotype
from dnas.gradient import optimizers
from dnas.runtime import divergence, fingerprint, initialize, loop
from dnas.runtime import parallel as parallels
from dnas.runtime.workdir import DamagedError, Workdir, open_workdir
from dnas.space import SearchSpace
from dnas.tasks import Estimate, Task, summary
from dnas.training.recipe import Recipe
from dnas.training.supervised import Training, supervised
from dnas.training.tally import make_evaluate

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
    score: Estimate
    parameters: int
    multiply_adds: int
    seconds: float
    seed: int
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    network: nnx.Module = dataclasses.field(repr=False, compare=False)
    task: Task = dataclasses.field(repr=False)


class Trainer:
    """Trains the network of one genotype, for several seeds with one compilation.

    It assumes what `dnas.jobs.train.check` checks.

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
        training = make_training(space, genotype, data, recipe, self._task, axis_name)
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
        """Trains with one seed; see `dnas.jobs.train.train`."""
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
        known: dict[str, Any] = {**facts, "score": Estimate(*facts["score"])}
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


def make_training(
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

    One training has a seed beside them. All arguments are those of `dnas.jobs.train.train`.
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
