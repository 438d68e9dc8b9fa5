"""The comparison: its statistics, its verdict, and resuming it."""

import dataclasses
import json
import warnings

import numpy as np
import pytest

from dnas.evaluators import full_training
from dnas.jobs import compare, train
from dnas.jobs.compare import Comparison, Row
from dnas.runtime import workdir
from dnas.tasks import Classification, Measure
from dnas.training import trainer
from dnas.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=6, learning_rate=0.05)

MEASURE = Classification.measure


@pytest.fixture
def planted(toy):
    """A comparison with these accuracies, found first."""

    def make(*accuracies):
        rows = [
            Row(f"random-{i}" if i else "found", toy.genotype("relu"), tuple(row), 1234, 56789)
            for i, row in enumerate(accuracies)
        ]
        return Comparison(tuple(rows), tuple(range(len(accuracies[0]))), "toys, 1 epoch", MEASURE)

    return make


def test_statistics(planted):
    result = planted([0.90, 0.92, 0.94], [0.80, 0.82, 0.84], [0.85, 0.85, 0.85], [0.9, 0.9, 0.96])
    assert result.found.mean == pytest.approx(0.92)
    assert result.found.std == pytest.approx(0.02)  # divisor n - 1; with n it would be 0.0163
    means = [0.82, 0.85, 0.92]
    assert result.random_mean == pytest.approx(np.mean(means))
    assert result.random_std == pytest.approx(np.std(means, ddof=1))
    assert result.rank == 2  # the tie with the last counts against the found one
    assert result.yardstick == result.random_std
    assert result.helped is True
    data = json.loads(result.to_json())
    assert data["rows"][0]["scores"] == [0.90, 0.92, 0.94]
    assert data["helped"] is True
    assert data["rank"] == 2


def test_noise_over_seeds_counts_where_it_is_larger(planted):
    result = planted([0.80, 0.90, 1.00], [0.84, 0.84, 0.84], [0.85, 0.85, 0.85])
    assert result.yardstick == pytest.approx(0.1)
    assert result.helped is False
    assert repr(result) == f"Comparison({result.verdict})"
    assert result.verdict.startswith("No win: +5.50 points are within one standard deviation (10.")


@pytest.mark.parametrize(
    ("measure", "verdict", "title", "cells"),
    [
        (
            Measure("R2"),
            "+0.0900 are more than {} (0.0141;",
            "R2,",
            "0.9300 0.0141",
        ),
        (
            Measure("loss", -1.0, " nats"),
            "-0.0900 nats are more than {} (0.0141 nats;",
            "loss in nats,",
            "-0.9300 0.0141",
        ),
    ],
)
def test_scores_are_shown_by_the_measure_of_their_task(planted, measure, verdict, title, cells):
    result = dataclasses.replace(planted([0.92, 0.94], [0.85, 0.85], [0.83, 0.83]), measure=measure)
    assert f"Search helped: {verdict.format('one standard deviation')}" in result.verdict
    table = result.format_table().splitlines()
    assert table[0] == f"Test {title} toys, 1 epoch, 2 seeds each"
    assert " ".join(table[2].split()).endswith(cells)
    assert result.as_dict()["measure"] == measure.name


@pytest.mark.parametrize(
    ("found", "start"),
    [
        ([0.93, 0.93], "Search helped: +8.00 points"),
        ([0.86, 0.86], "No win: +1.00 points"),
        ([0.84, 0.84], "No win: -1.00 points"),
        ([0.70, 0.70], "Search hurt: -15.00 points"),
    ],
)
def test_verdict(planted, found, start):
    result = planted(found, [0.80, 0.80], [0.90, 0.90], [0.85, 0.85])
    assert result.verdict.startswith(start)
    assert "85.00 +- 5.00 % of 3 random architectures" in result.verdict
    assert f"rank {result.rank} of 4" in result.verdict


def test_exactly_one_standard_deviation_is_no_win(planted):
    result = planted([0.75, 0.75], [0.25, 0.25], [0.5, 0.5], [0.75, 0.75])
    assert result.found.mean - result.random_mean == result.yardstick
    assert result.helped is False


def test_verdict_where_little_is_known(planted):
    lone = planted([0.9], [0.8])
    assert lone.helped is None
    assert lone.verdict.startswith("Too little to say")
    assert planted([0.9, 0.9]).verdict.startswith("Nothing to say")
    seeds = planted([0.90, 0.91], [0.80, 0.81])  # one may be a poor draw
    assert seeds.helped is None
    assert seeds.verdict.startswith("Too little to say with a single random architecture")
    assert "1 random architecture (" in seeds.verdict
    assert "One seed says nothing" in planted([0.9], [0.8], [0.7]).verdict


def test_table(planted):
    text = planted([0.90, 0.925], [0.8, 0.8], [0.85, 0.85]).format_table()
    title, header, first, *_, verdict = text.splitlines()
    assert title == "Test accuracy in %, toys, 1 epoch, 2 seeds each"
    names = "architecture parameters multiply-adds seed 0 seed 1 mean std"
    assert header.split() == names.split()
    assert first.split() == ["found", "1,234", "56,789", "90.00", "92.50", "91.25", "1.77"]
    assert len(header) == len(first)
    assert verdict.startswith("Search helped")
    assert planted([0.9], [0.8]).format_table().splitlines()[2].split()[-1] == "-"


def test_drawn_architectures_are_different_and_a_prefix_of_more(toy):
    found = toy.genotype("tanh")
    one = compare.draw(toy, found, 1, 3)
    two = compare.draw(toy, found, 2, 3)
    assert two[:1] == one
    assert {g["cell"]["only"] for g in two} == {"relu", "sin"}
    with pytest.warns(UserWarning, match="random=5: the space has only 2 other"):
        assert len(compare.draw(toy, found, 5, 0)) == 2


@pytest.fixture
def counted(monkeypatch):
    """Names the trainings that run; `fail_at` makes one of them raise."""
    log = {"runs": [], "trainers": 0, "fail_at": None}

    class Counting(trainer.Trainer):
        def __init__(self, *args):
            log["trainers"] += 1
            super().__init__(*args)

        def run(self, seed, *args, title, **options):
            if len(log["runs"]) == log["fail_at"]:
                raise KeyboardInterrupt
            log["runs"].append(title)
            return super().run(seed, *args, title=title, **options)

    monkeypatch.setattr(full_training, "Trainer", Counting)
    return log


def test_killed_comparison_trains_only_what_is_missing(toy, stripes, counted, tmp_path):
    def run(folder, **options):
        options = {"random": 1, "seeds": (0, 1), "progress": False} | options
        found = toy.genotype("tanh")
        return compare.compare(toy, found, stripes, RECIPE, workdir=tmp_path / folder, **options)

    whole = run("whole")
    names = ["found, seed 0", "found, seed 1", "random-1, seed 0", "random-1, seed 1"]
    assert counted["runs"] == names
    assert counted["trainers"] == 2  # one compilation an architecture
    assert whole.rows[0].genotype == toy.genotype("tanh") != whole.rows[1].genotype
    assert whole.seeds == (0, 1)

    counted.update(runs=[], fail_at=3)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    counted.update(runs=[], fail_at=None)
    assert run("killed") == whole
    assert counted["runs"] == names[3:]

    # A finished one trains nothing; more seeds train only themselves.
    counted["runs"] = []
    assert run("killed") == whole
    assert counted["runs"] == []
    more = run("killed", seeds=(0, 1, 2))
    assert counted["runs"] == ["found, seed 2", "random-1, seed 2"]
    assert more.rows[0].scores[:2] == whole.rows[0].scores
    written = (tmp_path / "killed" / "comparison.txt").read_text()
    assert written == more.format_table() + "\n"
    stored = json.loads((tmp_path / "killed" / "comparison.json").read_text())
    assert stored == json.loads(more.to_json())
    with pytest.raises(workdir.ContradictionError, match="rng_seed"):
        run("killed", rng_seed=1)


def test_comparison_needs_no_directory(toy, stripes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare.compare(
            toy, toy.genotype("sin"), stripes, RECIPE, random=0, seeds=(4,), progress=False
        )
    assert len(result.rows) == 1
    trained = train.train(toy, toy.genotype("sin"), stripes, RECIPE, seed=4, progress=False)
    assert result.found.scores == (trained.score.value,)


@pytest.mark.parametrize("options", [{"random": -1}, {"seeds": ()}, {"seeds": (1, 1)}], ids=str)
def test_impossible_settings_are_refused(toy, stripes, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        compare.compare(toy, toy.genotype("sin"), stripes, RECIPE, **options)
