"""Architectures trained by themselves for some steps, as masked supernets."""

import contextlib
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
import optax

from dnas import sequences
from dnas.choices import Tables, one_hot, stacked
from dnas.data import Feed
from dnas.evaluators.base import USUAL, Fidelity, Scores
from dnas.evaluators.remembered import measured
from dnas.evaluators.supernet import forward, tuner, validator
from dnas.genotype import Genotype
from dnas.gradient.bilevel import Search, SearchState
from dnas.runtime import initialize
from dnas.runtime.ahead import Ahead, at_a_time
from dnas.runtime.journal import Journal
from dnas.runtime.progress import Progress
from dnas.space import SearchSpace
from dnas.tasks import Task


class ShortTraining:
    """Trains each architecture from scratch for some steps, and validates it.

    An architecture is the supernet of which one option of a row is left, so that all of them share
    one compilation. All begin with the same initial weights, those of the fidelity's seed, with
    its noise and augmentation, and see the same examples in the same order. They train on the
    weights' half and are validated on all of the architecture's half. The fidelity's budget, which
    must be given, counts steps; each budget compiles once. The cost of a score is its steps.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        search: Search,
        feed: Feed,
        *,
        optimizer: Callable[[int], optax.GradientTransformation],
        others: Tables | None = None,
        key: jax.Array,
        noise: jax.Array | None,
        journal: Journal,
        progress: bool = False,
    ):
        """Compiles nothing yet.

        Args:
          space: the search space.
          task: what the supernet is built for.
          search: makes its initial weights.
          feed: of the halves of the train split.
          optimizer: of the weights, given the number of steps.
          others: mixing weights of the tables that no genotype tells; ones by default.
          key: of the initial weights; a seed is folded in.
          noise: key of candidates that are random, when an architecture is validated.
          journal: answers what was measured before.
          progress: whether trainings show theirs.
        """
        self._space, self._others = space, others
        self._journal, self._progress = journal, progress
        single = forward(space, task, single_path=True)
        carry = sequences.initial_carry(space, feed.batch_size)
        init = initialize.compiled(search.init)
        self._first = functools.cache(lambda seed: init(jax.random.fold_in(key, seed)))
        self._tune = functools.cache(
            lambda steps: tuner(single, task, optimizer(steps), feed, journal.check, carry)
        )
        self._validate = validator(single, task, functools.cache(feed.validation), noise, carry)
        self._compiled: set[int] = set()  # numbers of steps

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`; some trainings run at a time."""
        steps, seed = fidelity.budget, fidelity.seed
        if steps is None or steps < 1:
            raise ValueError(f"budget={steps}: expected a number of training steps from 1")
        kind = f"training for {steps}" + (f" from weights {seed}" if seed else "")
        count, scores = len(genotypes), []
        title = f"trainings from scratch for {steps} steps"
        bar = Progress(title, count * steps, 0, count, show=self._progress, unit="training")

        def train(i: int) -> Scores:
            return self._trained(genotypes[i], steps, seed)

        with contextlib.closing(bar), Ahead(train, count, at_a_time()) as ahead:
            if steps in self._compiled:
                bar.compiled()
            for i in range(count):
                trained = functools.partial(self._first_or_next, bar, ahead, i, steps, seed)
                known = steps in self._compiled
                (score,) = measured(self._journal, kind, trained).each()
                scores.append(score)
                shown = {f"valid_{name}": value for name, value in score.metrics.items()}
                bar.update(i + 1, (i + 1) * steps, shown)
                if steps in self._compiled and not known:
                    bar.compiled()  # neither what compiled nor the journal tells the speed
        return Scores.of(scores)

    def _first_or_next(
        self, bar: Progress, ahead: Ahead, number: int, steps: int, seed: int
    ) -> Scores:
        """One of the trainings; the first of so many steps runs alone, as it compiles."""
        alone = steps not in self._compiled
        self._first(seed)  # before several trainings ask for it at a time
        if alone:
            bar.compiling()
        scores = ahead(number, alone=alone)
        self._compiled.add(steps)
        return scores

    def _trained(self, genotype: Genotype, steps: int, seed: int) -> Scores:
        mix = one_hot(self._space, genotype, self._others)
        state: SearchState = self._tune(steps)(self._first(seed), mix, steps)
        scores = self._validate(state.params, stacked([mix]))
        return scores._replace(cost=np.full(1, float(steps)))
