"""Architectures whose networks are trained by a recipe, as in a publication."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from dnas.data import Dataset
from dnas.evaluators.base import USUAL, Fidelity, Score, Scores
from dnas.genotype import Genotype
from dnas.runtime.workdir import Workdir
from dnas.space import SearchSpace
from dnas.training import trainer
from dnas.training.recipe import Recipe
from dnas.training.trainer import Trainer


class FullTraining:
    """Trains the network of each architecture from scratch, and tests it.

    Values are those of the data set's test split. A strategy chooses by them, so it needs a data
    set whose test split was held out of the train split (`held_out`). The budget of a fidelity
    counts epochs, those of the recipe by default; its seed is that of the training. A network is
    compiled once for all seeds that are asked for one after the other. The cost of a score is the
    seconds that the training took.

    Every training has a directory, and a result that is there is not computed again. So what was
    interrupted goes on in the middle of a training. `dnas.jobs.train.check` is not repeated.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        recipe: Recipe,
        *,
        files: Workdir | None = None,
        name: Callable[[Genotype], str] | None = None,
        parallel: str = "none",
        progress: bool = False,
        chunk: int | None = None,
    ):
        """Trains nothing yet.

        Args:
          space: builds the networks.
          data: the data set.
          recipe: how every network is trained.
          files: where every training gets a directory, such as ``NAME/seed-0``; None keeps nothing.
          name: of an architecture, there and with the progress; `Genotype.digest` by
            default. If it is empty, directories are called ``seed-0`` alone.
          parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
          progress: whether to show progress.
          chunk: steps a dispatch; see `dnas.runtime.loop.run`.
        """
        self._space, self._data, self._recipe, self._parallel = space, data, recipe, parallel
        self._files, self._name = files or Workdir(None), name or (lambda genotype: genotype.digest)
        self._shown = {"progress": progress, "chunk": chunk}
        self._last: tuple[Any, Trainer] | None = None  # the network that is compiled

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`.

        Metrics are those of the task on the test split, and ``parameters`` and ``multiply_adds``.
        """
        return Scores.of([self._score(genotype, fidelity) for genotype in genotypes])

    def _score(self, genotype: Genotype, fidelity: Fidelity) -> Score:
        facts = self._trained(genotype, fidelity)
        value, error = facts["score"]
        counts = {name: float(facts[name]) for name in ("parameters", "multiply_adds")}
        return Score(value, error, facts["seconds"], facts["test"] | counts)

    def _trained(self, genotype: Genotype, fidelity: Fidelity) -> dict[str, Any]:
        """What result.json says of a training, after which it is there."""
        recipe, seed, name = self._recipe, fidelity.seed, self._name(genotype)
        folder = f"{name}/seed-{seed}" if name else f"seed-{seed}"
        if fidelity.budget is not None:
            recipe = dataclasses.replace(recipe, epochs=fidelity.budget)
            folder = f"{folder}-epochs-{recipe.epochs}"
        settings = trainer.describe(self._space, genotype, self._data, recipe, self._parallel)
        with self._files.subdirectory(folder, {"seed": seed, **settings}) as files:
            known = trainer.known_result(files)
            if known is not None:
                return known
            shown = {"title": f"{name or 'train'}, seed {seed}", **self._shown}
            result = self._trainer(genotype, recipe).run(seed, files.path, **shown)
            names = ("test", "score", "parameters", "multiply_adds", "seconds")
            return {name: getattr(result, name) for name in names}

    def _trainer(self, genotype: Genotype, recipe: Recipe) -> Trainer:
        """The compiled training of a network: the last one, if it is the same."""
        if self._last is None or self._last[0] != (genotype, recipe):
            self._last = None  # gives back its memory first
            arguments = self._space, genotype, self._data, recipe, self._parallel
            self._last = (genotype, recipe), Trainer(*arguments)
        return self._last[1]


def held_out(data: Dataset, seed: int) -> Dataset:
    """A data set whose test split is a half of the train split: what strategies may choose by.

    Args:
      data: the data set. Its test split is not read.
      seed: of the halves; that of a search makes the same ones.
    """
    first, second = data.halves(seed)
    frozen: Any = data  # a dataclass, as all data sets are
    return dataclasses.replace(frozen, train=first, test=second)
