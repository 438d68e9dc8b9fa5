"""Full trainings as an evaluator: their numbers are those of the job, each is made once."""

import numpy as np
import pytest

from dnas import costs
from dnas.evaluators import Fidelity, FullTraining
from dnas.evaluators.full_training import held_out
from dnas.jobs.train import train
from dnas.runtime.workdir import open_workdir
from dnas.strategies import Random, run
from dnas.training.recipe import Recipe
from dnas.training.trainer import Trainer

RECIPE = Recipe(epochs=2, batch_size=6, learning_rate=0.05)


def test_scores_are_those_of_trainings(toy, stripes, tmp_path, monkeypatch):
    genotypes = [toy.genotype("relu"), toy.genotype("sin")]
    made = []
    original = Trainer.run

    def counted(self, seed, *args, **options):
        made.append(seed)
        return original(self, seed, *args, **options)

    monkeypatch.setattr(Trainer, "run", counted)
    with open_workdir(tmp_path, {}) as files:
        evaluator = FullTraining(toy, stripes, RECIPE, files=files)
        scores = evaluator(genotypes, Fidelity(budget=1, seed=3))
        again = FullTraining(toy, stripes, RECIPE, files=files)(genotypes, Fidelity(1, 3))
        assert made == [3, 3]  # the second time they are read
    for i, genotype in enumerate(genotypes):
        recipe = Recipe(epochs=1, batch_size=6, learning_rate=0.05)
        alone = train(toy, genotype, stripes, recipe, seed=3, progress=False)
        assert (scores.value[i], scores.error[i]) == tuple(alone.score)
        assert scores.metrics["loss"][i] == alone.test["loss"]
        size = costs.count_parameters(toy, genotype, stripes.task())
        assert scores.metrics["parameters"][i] == size
    np.testing.assert_array_equal(again.value, scores.value)
    np.testing.assert_array_equal(again.cost, scores.cost)
    assert (scores.cost > 0).all()
    folders = sorted(path.parent.parent.name for path in tmp_path.glob("*/*/result.json"))
    assert folders == sorted(genotype.digest for genotype in genotypes)


def test_a_strategy_chooses_by_what_was_held_out(toy, stripes):
    part = held_out(stripes, seed=0)
    assert len(part.train) == len(part.test) == 15
    rows = np.concatenate([part.train.indices, part.test.indices])
    assert sorted(rows) == list(range(30)) and part.test.source is stripes.train.source
    strategy = Random(toy.sample)
    evaluator = FullTraining(toy, part, Recipe(epochs=1, batch_size=5, learning_rate=0.05))
    state = run(strategy, evaluator, 0, evaluations=2)
    values = {genotype: score.value for genotype, score in state.known.items()}
    assert len(values) == 2 and values[strategy.best(state)] == max(values.values())


def test_budgets_are_epochs(toy, stripes):
    with pytest.raises(ValueError, match="epochs"):
        FullTraining(toy, stripes, RECIPE)([toy.genotype("relu")], Fidelity(budget=0))
