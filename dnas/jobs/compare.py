"""Whether a search helped: its result against random architectures, trained alike."""

import dataclasses
import json
import os
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

from dnas import data as datasets
from dnas.evaluators import Evaluator, Fidelity
from dnas.evaluators.full_training import FullTraining
from dnas.genotype import Genotype
from dnas.jobs import train
from dnas.runtime.progress import heeds_progress
from dnas.runtime.workdir import open_workdir
from dnas.space import SearchSpace
from dnas.strategies import Random
from dnas.tasks import Measure
from dnas.training import trainer
from dnas.training.recipe import Recipe

FOUND = "found"
FREE = ("random", "seeds")  # settings that may grow in the same directory


@dataclasses.dataclass(frozen=True)
class Row:
    """One architecture of a comparison.

    Attributes:
      name: ``'found'``, ``'random-1'``, ...
      genotype: the architecture.
      scores: on the test split, one for each seed; higher is better.
      parameters: of its network, without an auxiliary head.
      multiply_adds: of one example in it; see `dnas.costs.count_multiply_adds`.
    """

    name: str
    genotype: Genotype = dataclasses.field(repr=False)
    scores: tuple[float, ...]
    parameters: int
    multiply_adds: int

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return statistics.fmean(self.scores)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds (divisor n - 1); None for one seed."""
        return _std(self.scores)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "name": self.name,
            "genotype": {part: self.genotype[part] for part in self.genotype.parts()},
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "scores": list(self.scores),
            "mean": self.mean,
            "std": self.std,
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A found architecture and random ones, trained with the same budget.

    Attributes:
      rows: the found architecture first.
      seeds: of the trainings, the same for every row.
      budget: what every training got, in words.
      measure: how scores are shown.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    budget: str
    measure: Measure

    def __repr__(self) -> str:
        return f"Comparison({self.verdict})"

    @property
    def found(self) -> Row:
        """The row of the found architecture."""
        return self.rows[0]

    @property
    def random(self) -> tuple[Row, ...]:
        """The rows of the random architectures."""
        return self.rows[1:]

    @property
    def random_mean(self) -> float | None:
        """Mean of the random architectures' means; None where there are none."""
        return statistics.fmean(row.mean for row in self.random) if self.random else None

    @property
    def random_std(self) -> float | None:
        """Sample standard deviation between their means; None for fewer than two."""
        return _std([row.mean for row in self.random])

    @property
    def rank(self) -> int:
        """Place of the found architecture by mean score, 1 being best; ties count against."""
        return 1 + sum(row.mean >= self.found.mean for row in self.random)

    @property
    def yardstick(self) -> float | None:
        """The difference that counts: the larger of two standard deviations.

        One is between the means of the random architectures: what luck in drawing makes. The
        other is that of the found architecture over its seeds: what luck in training makes.
        None where neither can be estimated.
        """
        known = [std for std in (self.random_std, self.found.std) if std is not None]
        return max(known, default=None)

    @property
    def helped(self) -> bool | None:
        """Whether the found architecture beats the random ones' mean by more than `yardstick`.

        None where that cannot be said: one random architecture may be a lucky or a poor draw.
        """
        mean, yardstick = self.random_mean, self.yardstick
        if len(self.random) < 2 or mean is None or yardstick is None:
            return None
        return self.found.mean - mean > yardstick

    @property
    def verdict(self) -> str:
        """What the numbers say, in words."""
        if self.random_mean is None:
            return "Nothing to say: there are no random architectures to compare with."
        measure, difference = self.measure, self.found.mean - self.random_mean
        facts = (
            f"found {_shown(measure, self.found.mean, self.found.std)} against "
            f"{_shown(measure, self.random_mean, self.random_std)} of {len(self.random)} random "
            f"architecture{'s' if len(self.random) > 1 else ''} (their mean and the standard "
            f"deviation between them); rank {self.rank} of {len(self.rows)}."
        )
        yardstick = self.yardstick
        if self.helped is None or yardstick is None:
            return f"Too little to say with a single random architecture. It is {facts}"
        apart = f"{measure.number(difference, '+')}{measure.points}"
        margin = (
            f"one standard deviation ({_spread(measure, yardstick)}{measure.points}; the "
            "larger of that between random architectures and that over the seeds of the found one)"
        )
        if self.helped:
            start = f"Search helped: {apart} are more than {margin}"
        elif difference < -yardstick:
            start = f"Search hurt: {apart}, more than {margin}"
        else:
            start = f"No win: {apart} are within {margin}"
        lone = " One seed says nothing about luck in training." if len(self.seeds) == 1 else ""
        return f"{start}: {facts}{lone}"

    def format_table(self) -> str:
        """The rows as a plain text table, with the verdict below."""
        table = format_rows(self.rows, self.seeds, self.budget, self.measure)
        return f"{table}\n{self.verdict}"

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        return {
            "seeds": list(self.seeds),
            "budget": self.budget,
            "measure": self.measure.name,
            "rows": [row.as_dict() for row in self.rows],
            "random_mean": self.random_mean,
            "random_std": self.random_std,
            "rank": self.rank,
            "yardstick": self.yardstick,
            "helped": self.helped,
            "verdict": self.verdict,
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2) + "\n"


def format_rows(rows: Sequence[Row], seeds: Sequence[int], budget: str, measure: Measure) -> str:
    """Scores as a plain text table.

    Args:
      rows: at least one.
      seeds: of their scores.
      budget: what every training got, in words.
      measure: how scores are shown.
    """
    seed_names = (f"seed {seed}" for seed in seeds)
    head = ("architecture", "parameters", "multiply-adds", *seed_names, "mean", "std")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        numbers = [measure.number(score) for score in (*row.scores, row.mean)]
        std = "-" if row.std is None else _spread(measure, row.std)
        counts = f"{row.parameters:,}", f"{row.multiply_adds:,}"
        lines.append((row.name, *counts, *numbers, std))
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    many = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    unit = f" in{measure.unit}" if measure.unit else ""
    text = [f"Test {measure.name}{unit}, {budget}, {many} each"]
    for name, *cells in lines:
        right = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        text.append("  ".join([name.ljust(first), *right]))
    return "\n".join(text)


@heeds_progress
def compare(
    space: SearchSpace,
    found: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    *,
    random: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    rng_seed: int = 0,
    workdir: str | os.PathLike | None = None,
    parallel: str = "none",
    progress: bool = True,
    chunk: int | None = None,
) -> Comparison:
    """Trains a found architecture and random ones with the same budget and seeds.

    Random sampling is the baseline that a search must beat (Li & Talwalkar, 2019; Yu et al.,
    2020). The test split is used for nothing but the final score of each training. In a
    directory every training has its own, ``found/seed-0`` for instance, with checkpoints and its
    result: the same call again trains what is missing. More seeds or random architectures
    may be asked for later.

    Args:
      space: builds the networks and draws the random architectures, uniformly.
      found: the architecture that a search found.
      data: the data set.
      recipe: how every network is trained.
      random: number of random architectures, different from each other and from the found one;
        fewer, with a warning, where the space has no more.
      seeds: one training of every architecture for each.
      rng_seed: decides which random architectures are drawn.
      workdir: the directory to write to and resume from; None writes nothing.
      parallel: ``'none'`` for one device, ``'pmap'`` for all local ones.
      progress: whether to show progress.
      chunk: steps a dispatch; see `dnas.runtime.loop.run`.

    Returns:
      The scores, their statistics, and a verdict.

    Raises:
      ValueError: an argument does not fit, by name; raised before anything is trained.
      dnas.runtime.workdir.WorkdirError: the directory belongs to other settings, another process
        writes to it, or it cannot be written.
      dnas.runtime.loop.Stopped: SIGTERM or Ctrl-C came; the state is saved.
      dnas.runtime.loop.DivergedError: a loss or a weight became NaN or Inf.
    """
    seeds = tuple(seeds)
    if random < 0:
        raise ValueError(f"random must be 0 or more, got {random!r}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different and at least one, got {seeds!r}")
    train.check(space, found, data, recipe, parallel)
    data.check()
    drawn = draw(space, found, random, rng_seed)
    architectures = {FOUND: found} | {f"random-{i}": g for i, g in enumerate(drawn, 1)}

    config = describe(space, found, data, recipe, parallel, random, seeds, rng_seed)
    with open_workdir(workdir, config, FREE) as files:
        training = FullTraining(
            *(space, data, recipe),
            files=files,
            name={genotype: name for name, genotype in architectures.items()}.__getitem__,
            parallel=parallel,
            progress=progress,
            chunk=chunk,
        )
        rows = [row(name, genotype, training, seeds) for name, genotype in architectures.items()]
        result = Comparison(
            tuple(rows), seeds, budget(data, recipe), data.task(measured=False).measure
        )
        files.write_text("comparison.json", result.to_json())
        files.write_text("comparison.txt", result.format_table() + "\n")
    return result


def describe(
    space: SearchSpace,
    found: Genotype,
    data: datasets.Dataset,
    recipe: Recipe,
    parallel: str,
    random: int,
    seeds: Sequence[int],
    rng_seed: int,
) -> dict[str, Any]:
    """The settings of a comparison as plain data; the arguments are those of `compare`."""
    config = trainer.describe(space, found, data, recipe, parallel)
    return config | {"rng_seed": rng_seed, "random": random, "seeds": list(seeds)}


def row(name: str, genotype: Genotype, training: Evaluator, seeds: Sequence[int]) -> Row:
    """An architecture trained with several seeds.

    Args:
      name: of the row.
      genotype: the architecture.
      training: such as `dnas.evaluators.FullTraining`, whose metrics include ``parameters`` and
        ``multiply_adds``.
      seeds: one training for each.
    """
    scores = [next(training([genotype], Fidelity(seed=seed)).each()) for seed in seeds]
    counts = {n: int(scores[0].metrics[n]) for n in ("parameters", "multiply_adds")}
    return Row(name, genotype, tuple(score.value for score in scores), **counts)


def budget(data: datasets.Dataset, recipe: Recipe) -> str:
    """What a training gets, in words."""
    epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
    return f"{data.name}, {epochs} of {len(data.train)} examples"


def draw(space: SearchSpace, found: Genotype, number: int, seed: int) -> tuple[Genotype, ...]:
    """Draws architectures uniformly, different from each other and from `found`.

    Args:
      space: draws.
      found: what not to draw.
      number: how many; the first of a larger number are those of a smaller one.
      seed: of the draws.

    Returns:
      The architectures; fewer, with a warning, where the space has no more.
    """
    strategy = Random(space.sample, without=(found,))
    proposal, _ = strategy.ask(strategy.init(seed), number)
    drawn = proposal.genotypes
    if len(drawn) < number:
        warnings.warn(
            f"random={number}: the space has only {len(drawn)} other architectures",
            stacklevel=2,
        )
    return drawn


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _shown(measure: Measure, mean: float, std: float | None) -> str:
    spread = "" if std is None else f" +- {_spread(measure, std)}"
    return f"{measure.number(mean)}{spread}{measure.unit}"


def _spread(measure: Measure, std: float) -> str:
    """A standard deviation, which has no sign."""
    return measure.number(std).lstrip("-")
