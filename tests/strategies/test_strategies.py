"""Strategies: their contract, planted landscapes, exhaustive search, a benchmark's table."""

import itertools
import math

import jax
import numpy as np
import pytest
from planted import CELL, SMALL

from dnas import spaces
from dnas.benchmarks import NASBench201
from dnas.evaluators import Fidelity, Remembered, Score, Scores, Table
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.loop import Stopped
from dnas.runtime.workdir import Workdir, WorkdirError
from dnas.strategies import LocalSearch, Proposal, Racing, Random, run
from dnas.testing import Planted, check_strategy

TINY = spaces.NASBench201(nodes=3, operations=("none", "skip_connect", "nor_conv_3x3"))
MAKE = {
    "random": lambda space: Random(space.sample),
    "random with an end": lambda space: Random(space.sample, draws=30),
    "local search": LocalSearch,
    "racing": lambda space: Racing(space, budget=3, count=20),
}


def every(space):
    """All architectures of a space with one cell that keeps all edges."""
    decision = space.decisions["cell"]
    eye = np.eye(len(decision.options))
    choices = itertools.product(range(len(eye)), repeat=len(decision.rows))
    return [space.discretize({"cell": eye[list(chosen)]}) for chosen in choices]


@pytest.mark.parametrize("space", [CELL, SMALL, TINY], ids=["cell", "darts", "tiny"])
@pytest.mark.parametrize("name", MAKE)
def test_contract(name, space):
    check_strategy(MAKE[name](space), space)
    check_strategy(MAKE[name](space), space, key=jax.random.key(3), at_a_time=1, evaluations=12)


def test_a_prior_is_not_needed_for_the_best_of_an_additive_landscape():
    planted = Planted(seed=2)
    best = max(every(TINY), key=planted.value)
    for seed in range(3):
        local, racing = LocalSearch(TINY), Racing(TINY, budget=1, sigmas=0.01, decisive=0.01)
        assert local.best(run(local, planted, seed)) == best
        assert racing.best(run(racing, planted, seed)) == best
    random = Random(TINY.sample)
    state = run(random, planted, 0)  # patience: 27 architectures are all there are
    assert random.best(state) == best and len(state.known) == 27 and state.drawn >= 227


def rugged(genotypes, fidelity=None):
    """Values without any structure, some of them equal: hashes of the options."""
    values = []
    for genotype in genotypes:
        text = ",".join(genotype["cell"].values())
        values.append(np.random.default_rng(list(text.encode())).integers(12) / 10)
    return Scores.of([Score(v, 0.0, 0.0, {}) for v in values])


def test_local_search_ends_in_a_local_optimum():
    for seed in range(4):
        strategy = LocalSearch(CELL, sweeps=50)
        state = run(strategy, rugged, seed)
        best = strategy.best(state)
        here = rugged([best]).value[0]
        for row, option in best["cell"].items():
            for o in CELL.operations:
                chosen = {**best["cell"], row: o}
                table = np.array([[x == name for x in CELL.operations] for name in chosen.values()])
                near = CELL.discretize({"cell": table.astype(float)})
                assert rugged([near]).value[0] <= here, (row, option, o)
        values = [state.known[step.genotype].value for step in state.steps]
        assert values == sorted(values)


def test_evaluations_are_a_budget():
    for n, at_a_time in ((1, 8), (10, 3), (37, 8)):
        asked = []

        def counted(genotypes, fidelity, asked=asked):
            asked.append(len(genotypes))
            return rugged(genotypes)

        run(Random(CELL.sample), counted, 0, evaluations=n, at_a_time=at_a_time)
        assert sum(asked) == n and max(asked) <= at_a_time


def test_a_run_goes_on_from_its_state():
    strategy = LocalSearch(CELL)
    whole = run(strategy, rugged, 0)
    part = run(strategy, rugged, 0, evaluations=11)
    assert len(part.known) == 11
    assert run(strategy, rugged, 1, state=part) == whole  # the key is that of the beginning


@pytest.mark.parametrize("name", ["local search", "racing"])
def test_a_run_that_is_killed_goes_on_from_the_journal(name, tmp_path):
    strategy, calls = MAKE[name](CELL), []
    expected = run(strategy, noisy, 0, at_a_time=3)

    def counted(genotypes, fidelity):
        calls.append((genotypes, fidelity))
        return noisy(genotypes, fidelity)

    def go_on(after=None):
        with Interrupts() as interrupts:
            journal = Journal(Workdir(tmp_path), interrupts)
            left = itertools.count(1)

            def evaluator(genotypes, fidelity):
                if next(left) == after:
                    interrupts.received = "SIGTERM"  # noticed with the next question
                return counted(genotypes, fidelity)

            return run(strategy, Remembered(evaluator, journal), 0, at_a_time=3)

    for after in (1, 3):
        with pytest.raises(Stopped, match="after measurement"):
            go_on(after)
    assert go_on() == go_on() == expected
    assert len(calls) == len(set(calls))  # nothing was computed twice
    with Interrupts() as interrupts, pytest.raises(WorkdirError, match="this selection measures"):
        run(strategy, Remembered(noisy, Journal(Workdir(tmp_path), interrupts)), 1, at_a_time=2)


def noisy(genotypes, fidelity):
    """Numbers that no short text holds, by fidelity."""
    seeds = [int(genotype.digest, 16) + hash(fidelity[1]) for genotype in genotypes]
    values = [np.random.default_rng(seed).normal() for seed in seeds]
    return Scores.of([Score(v, abs(v) / 3, 1.0, {"loss": -v / 7}) for v in values])


def test_what_is_excluded_is_not_drawn():
    few = every(TINY)[:26]
    strategy = Random(TINY.sample, without=tuple(few))
    (last,) = run(strategy, rugged, 0).known
    assert last not in few


def test_random_search_takes_the_first_of_equals_and_the_smaller_loss():
    def scores(genotypes, fidelity):
        losses = [1.0, 0.5, 0.5, 2.0]
        return Scores.of([Score(0.7, 0.1, 0.0, {"loss": losses[i]}) for i in range(4)])

    strategy = Random(CELL.sample)
    state = run(strategy, scores, 0, evaluations=4)
    assert strategy.best(state) == state.proposed[1]


def test_races_ask_for_no_score_twice_where_fidelities_agree():
    asked = []

    def evaluator(genotypes, fidelity):
        asked.extend((g, fidelity) for g in genotypes)
        return rugged(genotypes)

    run(Racing(TINY, budget=5, longer=1), evaluator, 0)
    assert len(set(asked)) == len(asked) and {f for _, f in asked} <= {
        Fidelity(5, 0),
        Fidelity(5, 1),
    }


def broken(**methods):
    """A random search with other methods."""
    return type("Broken", (Random,), methods)(CELL.sample)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"ask": lambda self, s, n: (Proposal((CELL.sample(np.random.default_rng(0)),) * 2), s)},
            "proposes an architecture twice",
        ),
        ({"ask": lambda self, s, n: Random.ask(self, s, n + 1)}, "at most 4 were wanted"),
        ({"best": lambda self, s: s.proposed[0] if s.proposed else None}, "best names None"),
        (
            {"tell": lambda self, s, p, x: (s.known.update(zip(p.genotypes, x.each())), s)[1]},  # noqa: B905
            "tell changes the state",
        ),
        ({"ask": lambda self, s, n: (Proposal(()), s)}, "nothing at all"),
        (
            {"init": lambda self, key: Random.init(self, key)._replace(rng=object())},
            "an object of object",
        ),
    ],
)
def test_a_broken_contract_is_named(methods, message):
    with pytest.raises(AssertionError, match=message):
        check_strategy(broken(**methods), CELL)


def best_of(values, n):
    """Mean and variance of the best of n draws without repetition, in closed form."""
    values, size = np.sort(values), len(values)
    weights = [math.comb(rank - 1, n - 1) / math.comb(size, n) for rank in range(1, size + 1)]
    mean = float(np.dot(weights, values))
    return mean, float(np.dot(weights, (values - mean) ** 2))


def test_the_best_of_random_draws_from_the_table(shared_data):
    table = NASBench201(shared_data / "nb201_table.csv")
    evaluator, runs, n = Table(table), 200, 20
    numbers = np.array([0, 5, 9])
    scores = evaluator([table.genotype(i) for i in numbers], Fidelity(12))
    valid = np.asarray(table.accuracy(numbers, split="valid", epochs=12), np.float64) / 100
    np.testing.assert_array_equal(scores.value, valid)
    assert (scores.error == 0).all()
    seconds = np.asarray(table.seconds(numbers), np.float64)  # of 200 epochs
    np.testing.assert_allclose(scores.cost, seconds * 12 / 200, rtol=1e-6)
    found = []
    for seed in range(runs):
        strategy = Random(CELL.sample)
        state = run(strategy, evaluator, seed, evaluations=n)
        found.append(state.known[strategy.best(state)].value)
    values = np.asarray(table.accuracy(np.arange(15625), split="valid"), np.float64) / 100
    mean, variance = best_of(values, n)
    assert abs(np.mean(found) - mean) < 4 * math.sqrt(variance / runs)


def test_local_search_on_the_table_beats_as_many_random_draws(shared_data):
    table = NASBench201(shared_data / "nb201_table.csv")
    values = np.asarray(table.accuracy(np.arange(15625), split="valid"), np.float64) / 100
    gains = []
    for seed in range(8):
        strategy = LocalSearch(CELL, sweeps=20)
        state = run(strategy, Table(table), seed)
        best = strategy.best(state)
        assert all(state.known[step.genotype].value > step.before.value for step in state.steps)
        gains.append(state.known[best].value - best_of(values, len(state.known))[0])
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / math.sqrt(len(gains))
