"""The configs of recurrent cells: published numbers, and a text from a file to a step."""

import dataclasses

import pytest
from test_command_line import settings_of

from dnas.cli import build, search
from dnas.cli import config as configs
from dnas.spaces import Recurrent


def test_the_published_search_has_the_published_numbers():
    config = configs.load("darts_language")
    space = build.make_space(config)
    assert space == Recurrent(word_dropout=0.1)  # in trainings: supernets leave out no word
    assert (space.channels, space.nodes) == (300, 8)
    dropouts = "word", "input", "cell", "hidden", "output"
    assert [getattr(space, f"{d}_dropout") for d in dropouts] == [0.1, 0.2, 0.75, 0.25, 0.75]
    preset = build.make_preset(config)
    names = "epochs", "batch_size", "learning_rate", "final_learning_rate", "momentum", "clip_norm"
    assert [getattr(preset, name) for name in names] == [50, 256, 20.0, 20.0, 0.0, 0.25]
    assert (preset.weight_decay, preset.alpha_weight_decay) == (5e-7, 1e-3)
    assert (preset.alpha_learning_rate, preset.alpha_betas) == (3e-3, (0.9, 0.999))
    wanted = build.make_recipe(config)
    assert wanted.sized(space) == dataclasses.replace(space, channels=850)
    assert config["data"]["bptt"] == 35 and config["data"]["temporal_regularization"] == 1e-3


def test_a_text_reaches_search_and_comparison(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("It was the best of times, it was the worst of times. " * 60)
    small = "--config.data.train_limit=80", "--config.space.channels=4", "--config.space.nodes=2"
    job = search.prepare(settings_of("--config=language", f"--config.data.path={path}", *small))
    assert job.data.level == "character" and len(job.data.train) == 80
    assert job.trained_space == job.space and job.space.hidden_dropout == 0.0
    assert job.train.seeds == (0, 1, 2) and job.preset.learning_rate == 10.0
    with pytest.raises(ValueError, match=r"config.data.path='none.txt': there is no such file"):
        search.prepare(settings_of("--config=language", "--config.data.path=none.txt", *small))
    with pytest.raises(ValueError, match="path must be given with the data set 'text'"):
        search.prepare(settings_of("--config=language", *small))
