"""Configs of the command line with single values replaced."""

import importlib
import random

from fuzz.outcomes import Input

from dnas.cli import flags, search

NAMES = ("digits", "nas_bench_201_cpu")
BAD = (
    *(float("inf"), float("-inf"), float("nan"), 10**20, -(10**20), 1e300, -1, -0.5, 2.5e9),
    *("", "x" * 100_000, (), ("a", 0.9), (0.5, 0.9, 0.9), (float("inf"), 0.9), [None]),
)
ODD = (
    0,
    1,
    2,
    3,
    0.5,
    0.1,
    1e-12,
    1e-40,
    True,
    False,
    "darts",
    "softmax",
    40,
    1000,
    10**6,
    (0.5, 0.9),
)
FREE = ("name", "data_dir")  # any text may name a folder


def inputs(rng: random.Random, number: int) -> list[Input]:
    """So many configs."""
    made = []
    while len(made) < number:
        name = rng.choice(NAMES)
        config = importlib.import_module(f"experiments.configs.{name}").get_config()
        config.update_from_flattened_dict(
            {"data.name": "digits", "space.channels": 4, "space.cells": 1, "search.batch_size": 16}
            | {"search.epochs": 4, "data.crop_padding": 0, "data.pool": 1, "data.cutout": 0}
            | {"data.train_limit": 200, "compare_random": int(rng.random() < 0.1)}
        )
        keys = [k for k in _keys(config) if config.compare_random or not k.startswith("train.")]
        changes, bad = {}, False
        for key in rng.sample(keys, rng.choice([1, 1, 2])):
            wrong = rng.random() < 0.5
            changes[key] = rng.choice(BAD if wrong else ODD)
            bad |= wrong and key.split(".")[-1] not in FREE
        with config.unlocked(), config.ignore_type():
            config.update_from_flattened_dict(changes)
        settings = flags.Settings(config, None, "none", False)
        made.append(Input(str(changes), lambda s=settings: search.prepare(s), bad))
    return made


def _keys(config, prefix=""):
    for key in config:
        value = config.get(key)
        if hasattr(value, "keys"):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
