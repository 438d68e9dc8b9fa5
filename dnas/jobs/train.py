"""Training the network of one genotype from scratch, and testing it."""

import math
import os

import jax
from flax import nnx

from dnas import checks, sequences
from dnas import data as datasets
from dnas.genotype import Genotype
from dnas.jobs import arguments
from dnas.runtime import memory
from dnas.runtime import parallel as parallels
from dnas.runtime.progress import heeds_progress
from dnas.space import SearchSpace
from dnas.tasks import Task, batch_of
from dnas.training import published
from dnas.training.recipe import Recipe
from dnas.training.trainer import Trainer, TrainResult, make_training


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
    with checks.naming("augment"):
        arguments.check_prepared(task)
    _check_auxiliary(space, genotype, task, recipe)
    checks.steps(recipe.epochs, len(data.train) // recipe.batch_size)
    # Tracing a step meets all that examples can be too small for.
    training = make_training(space, genotype, data, recipe, task)
    size = recipe.batch_size // devices.devices
    batch = batch_of(task.examples, size)
    state = jax.eval_shape(training.init, jax.random.key(0))
    memory.check_weights("network", sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)))
    jax.eval_shape(training.step, state, batch)
    published.warn_of_stem(space, recipe)


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
