"""Planted problems, where what an option is worth is a number in a table."""

import jax
import numpy as np

from dnas import selection, spaces
from dnas.choices import one_hot, stacked
from dnas.evaluators import Scores, SharedWeights

CELL = spaces.NASBench201()
SMALL = spaces.DARTS(nodes=3, operations=("none", "skip_connect", "sep_conv_3x3"))


def scores_of(losses, accuracies, images=1000):
    """As a classification's, with the error of so many images."""
    p = np.asarray(accuracies, np.float64)
    error = np.sqrt(np.maximum(p * (1 - p), 0) / images)
    metrics = {"accuracy": p, "loss": np.asarray(losses, np.float64)}
    return Scores(p, error, np.zeros(len(p)), metrics)


class Planted:
    """A supernet that is as accurate as the sum of weights times what their options are worth."""

    steps_per_epoch = 10

    def __init__(self, space, seed=0, worth=None):
        rng = np.random.default_rng(seed)
        shapes = {n: (len(d.rows), len(d.options)) for n, d in space.decisions.items()}
        self.worth = worth or {n: rng.uniform(size=shape) for n, shape in shapes.items()}
        self.mix = {n: np.full((r, o), 1 / o, np.float32) for n, (r, o) in shapes.items()}
        self.space, self.mixes, self.tuned, self.states = space, [], [], []
        self.state = 0

    def validate(self, state, mixes):
        count = len(next(iter(mixes.values())))
        mine = [{n: t[i] for n, t in mixes.items()} for i in range(count)]
        self.mixes += mine
        self.states += [state] * count
        values = np.array([self.value(mix) for mix in mine])
        return scores_of(-values, values)

    def value(self, mix):
        return sum(float((mix[n] * self.worth[n]).sum()) for n in self.worth)

    def finetune(self, state, mix, steps):
        self.tuned.append((mix, steps))
        return state + 1

    def trained(self, seed=0, train=None, images=1000, **fields):
        """A search that ended here.

        Args:
          seed: of the selection.
          train: ``(steps, mixes, seed) -> (losses, accuracies)`` of short trainings.
          images: that these are validated on.
          **fields: others of `selection.Trained`.
        """

        def short_training(genotypes, fidelity):
            mixes = stacked([one_hot(self.space, g, mine["mix"]) for g in genotypes])
            return scores_of(*train(fidelity.budget, mixes, fidelity.seed), images)

        mine = {"mix": self.mix, "supernet": self, "short_training": short_training} | fields
        shared = SharedWeights(self.space, lambda mixes: self.validate(self.state, mixes), self.mix)
        mine = {"key": jax.random.key(seed), "shared_weights": shared} | mine
        return selection.Trained(self.space, **mine)

    def best(self, part):
        """The options worth most on each edge, by the option's worth; 'none' does not count."""
        found = {}
        for name, decision in self.space.decisions.items():
            if decision.part == part:
                for row, values in zip(decision.rows, self.worth[name], strict=True):
                    named = dict(zip(decision.options, values, strict=True))
                    if self.space.name == "darts":
                        named.pop("none", None)
                    option = max(named, key=named.get)
                    found[row] = (option, named[option])
        return found
