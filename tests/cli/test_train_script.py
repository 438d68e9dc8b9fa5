"""The command line of training from scratch."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from dnas.cli.train import read_genotype
from dnas.spaces.nas_bench_201 import NASBench201

TEXT = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"  # a chain
ROOT = pathlib.Path(__file__).resolve().parents[2]


def script(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.train", "--nocache", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_genotype_from_text_and_files(tmp_path):
    space = NASBench201()
    genotype = space.parse(TEXT)
    genotype.save(tmp_path / "genotype.json")
    (tmp_path / "published.txt").write_text(TEXT + "\n")
    for given in (TEXT, tmp_path / "genotype.json", tmp_path / "published.txt"):
        assert read_genotype(space, str(given)) == genotype


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "--genotype is missing"),
        ("nowhere/genotype.json", "nowhere/genotype.json'?: there is no such file"),
        (TEXT.replace("none~0", "conv_9x9~0"), "--genotype, read .*conv_9x9"),
        ("Genotype(normal=[], reduce=[])", "--genotype, read "),
    ],
)
def test_genotypes_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        read_genotype(NASBench201(), given)


def test_genotype_of_another_space(tmp_path):
    genotype = NASBench201().parse(TEXT)
    path = tmp_path / "genotype.json"
    path.write_text(genotype.to_json().replace('"nas_bench_201"', '"darts"'))
    with pytest.raises(ValueError, match="'darts'"):
        read_genotype(NASBench201(), str(path))


@pytest.mark.slow
def test_script_trains_every_seed_and_resumes(tmp_path):
    """The result counts its seeds, and running again trains nothing."""
    arguments = [
        f"--genotype={TEXT}",
        f"--workdir={tmp_path / 'run'}",
        "--config.train.epochs=1",
        "--config.train.channels=2",
        "--config.train.seeds=(0, 7)",
        "--config.data.train_limit=128",
    ]
    first = script(*arguments)
    assert first.returncode == 0, first.stderr
    assert "digits, 1 epoch of 128 examples, 2 seeds each" in first.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["seeds"] == [0, 7]
    assert len(result["scores"]) == 2
    assert f"{100 * result['mean']:.2f}" in first.stdout
    again = script(*arguments)
    assert again.stdout == first.stdout
    assert "epoch" not in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"), [("space.channels", 4), ("data.augment.flip", True)], ids=str
)
def test_settings_of_the_search_are_refused(key, value):
    result = script(f"--genotype={TEXT}", f"--config.{key}={value}")
    assert result.returncode == 1
    assert f"error: config.{key} has no effect here" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_whole_commands_and_all_keys_of_the_space():
    text = script("--help").stdout
    assert "dnas train --config=digits" in text and "search.epochs" not in text
    for key in ("name", "nodes", "stages", "stem_multiplier", "stem ", "subset"):
        assert f"space.{key}" in text
