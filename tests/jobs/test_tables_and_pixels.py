"""Regression and segmentation from a search to a comparison, on made and on real data."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import dnas
from dnas import strategies
from dnas.data import Augment, from_csv, from_segmented_arrays, pooled
from dnas.evaluators.full_training import FullTraining, held_out
from dnas.jobs.compare import compare
from dnas.spaces import Dense, NASBench201
from dnas.training.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parents[2]
# No more can be decided than what follows one layer.
SPACE = Dense(1, (8,), ("identity", "relu"), ("he_uniform",), (0.0,))
RECIPE = Recipe(epochs=10, batch_size=16, learning_rate=0.1)


@pytest.fixture(scope="module")
def valley(tmp_path_factory):
    """``y = |x|``, which no affine map explains."""
    path = tmp_path_factory.mktemp("tables") / "valley.csv"
    x = np.random.default_rng(0).uniform(-1, 1, 400)
    np.savetxt(path, np.c_[x, abs(x)], "%.6g", ",", header="x,y", comments="")
    return from_csv(path, "y"), path


def test_a_search_finds_the_activation_that_a_table_needs(valley):
    preset = dnas.presets.darts(
        epochs=6, batch_size=16, learning_rate=0.1, alpha_learning_rate=0.02
    )
    result = dnas.search(SPACE, valley[0], preset, progress=False)
    assert result.genotype["activation"] == {"layer 1": "relu"}
    assert result.history[-1]["valid_r2"] > 0.5 and not result.warnings
    assert result.history[-1]["valid_rmse"] < result.history[0]["valid_rmse"]


def test_so_does_a_search_without_gradients_by_trainings_on_a_part_of_the_train_rows(valley):
    training = FullTraining(SPACE, held_out(valley[0], 0), RECIPE)
    strategy = strategies.Random(SPACE.sample)
    state = strategies.run(strategy, training, 0, evaluations=2)
    assert strategy.best(state)["activation"] == {"layer 1": "relu"}


def test_a_comparison_is_in_the_measure_of_the_task(valley):
    found = SPACE.parse("|8 relu he_uniform 0|")
    result = compare(SPACE, found, valley[0], RECIPE, random=1, seeds=(0,), progress=False)
    assert result.found.scores[0] > 0.9 > 0.1 > result.random[0].scores[0]
    assert result.format_table().startswith("Test R2, valley, 10 epochs of 320 examples, 1 seed")


def run(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import sys; from dnas.cli import main; sys.exit(main())"]
    return subprocess.run(
        [*command, *words, "--noprogress"], env=environment, text=True, capture_output=True
    )


@pytest.mark.slow
def test_one_command_searches_a_table_and_compares(shared_data, tmp_path):
    table = shared_data / "tabular" / "california_housing.csv"
    found = run(
        *("search", "--config=california_housing", f"--config.data.path={table}"),
        *("--config.data.train_limit=2000", "--config.search.epochs=3", "--config.train.epochs=5"),
        *(
            "--config.compare_random=1",
            "--config.train.seeds=(0,)",
            f"--workdir={tmp_path / 'run'}",
        ),
    )
    assert found.returncode == 0, found.stderr
    assert "Test R2, california_housing, 5 epochs of 2000 examples, 1 seed each" in found.stdout
    tested = run(
        *("evaluate", f"--run={tmp_path / 'run' / 'compare' / 'found' / 'seed-0'}"),
        *("--config.data.name=csv", f"--config.data.path={table}"),
        "--config.data.target=median_house_value",
    )
    assert tested.returncode == 0, tested.stderr
    assert "of 'median_house_value', 4,128 examples" in tested.stdout


@pytest.mark.slow
def test_a_table_without_its_target_is_named(valley):
    found = run("search", "--config=california_housing", f"--config.data.path={valley[1]}")
    assert found.returncode == 1
    assert "valley.csv': target='median_house_value': expected one of x, y" in found.stderr
    found = run(
        "train",
        "--config=california_housing",
        f"--config.data.path={valley[1]}",
        "--genotype=|16 relu he_uniform 0|",
        "--config.space.depth=1",
        "--config.train.cells=3",
    )
    assert "config.train.cells=3: expected None" in found.stderr


@pytest.mark.slow
def test_cells_learn_to_tell_pixels_apart():
    """Bright pixels are of one class, dark ones of the other; a fifth of them are void."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(0, 2, (48, 4, 4)), 2, 1), 2, 2)
    images = (60 + 120 * labels + rng.integers(0, 60, labels.shape)).astype(np.uint8)
    labels[:, :2] = 7
    data = from_segmented_arrays(images[:32], labels[:32], images[32:], labels[32:], void=7)
    space = NASBench201(channels=4, cells=1, nodes=2, stages=2)
    preset = dnas.presets.darts(epochs=4, batch_size=4, learning_rate=0.1)
    found = dnas.search(space, data, preset, augment=dnas.data.Augment(2, True), progress=False)
    assert found.history[-1]["valid_mean_iou"] > 0.8
    recipe = Recipe(epochs=4, batch_size=8, learning_rate=0.1, augment=Augment(flip=True))
    result = compare(space, found.genotype, data, recipe, random=1, seeds=(0,), progress=False)
    assert result.found.mean > 0.8
    assert result.format_table().startswith("Test mean IoU in %, segmented, 4 epochs of 32")


@pytest.mark.slow
def test_camvid_is_learned(shared_data):
    """Sky, buildings and roads are told apart after a few steps of a small network."""
    path = shared_data / "camvid" / "camvid_96x128.npz"
    data = pooled(dnas.data.load("segmented", path=str(path), void=11), 4)
    space = NASBench201(channels=8, cells=1, stages=2)
    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    recipe = Recipe(epochs=4, batch_size=8, learning_rate=0.1, augment=Augment(flip=True))
    result = dnas.train(space, space.parse(cell), data, recipe, progress=False)
    evaluation = dnas.evaluate(result, data)
    assert evaluation.class_ious[[0, 1, 3]].min() > 0.4
    assert evaluation.metrics == pytest.approx(result.test, rel=1e-5)
    assert 0.15 < result.score.value < 0.6 and result.score.error < 0.02
