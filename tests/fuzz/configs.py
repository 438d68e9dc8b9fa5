"""Configs of the command line with single values replaced."""

import random

from fuzz.outcomes import Input

from dnas.cli import config as configs
from dnas.cli import flags, keys, search

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
PARTS = ("relaxation", "hypergradient", "regularizers", "selection")
FREE = ("name", "data_dir")  # any text may name a folder


def inputs(rng: random.Random, number: int) -> list[Input]:
    """So many configs."""
    made = []
    while len(made) < number:
        config = configs.load(rng.choice(NAMES))
        config["data"] |= {"name": "digits", "pool": 1}
        config["data"]["augment"] = {"crop_padding": 0, "cutout": 0}
        config["data"]["train_limit"] = 200
        config["space"] |= {"channels": 4, "cells": 1}
        config["search"] |= {"batch_size": 16, "epochs": 4}
        config["compare_random"] = int(rng.random() < 0.1)
        known = [key for key, _ in _values(config)]
        known += [f"search.{part}.{key}" for part in PARTS for key in keys.PartKey(part).keys]
        known = [k for k in known if config["compare_random"] or not k.startswith("train.")]
        changes, bad = {}, False
        for key in rng.sample(known, rng.choice([1, 1, 2])):
            wrong = rng.random() < 0.5
            changes[key] = rng.choice(BAD if wrong else ODD)
            bad |= wrong and key.split(".")[-1] not in FREE
        for key, value in changes.items():
            *path, last = key.split(".")
            section = config
            for word in path:
                section = section.setdefault(word, {})
            section[last] = value
        settings = flags.Settings(config, frozenset(), None, "none", False)
        made.append(Input(str(changes), lambda s=settings: search.prepare(s), bad))
    return made


def _values(section, prefix=""):
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
