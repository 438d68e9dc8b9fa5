"""All keys of a search's config with their published values, for the configs to change.

Keys that are None are left to the method or the space; on the command line they take a value of
their type.
"""

import dataclasses

from ml_collections import ConfigDict, config_dict

from dnas import presets
from dnas.jobs import recipe

_METHODS = ("relaxation", "hypergradient")


def make(space: str, **train) -> ConfigDict:
    """The config of first-order DARTS (Liu et al., 2019) on a space.

    Args:
      space: ``'nas_bench_201'`` or ``'darts'``.
      **train: changes to the published recipe of that space; see `dnas.jobs.recipe.published`.
    """
    preset = presets.darts()
    numbers = {
        field.name: getattr(preset, field.name)
        for field in dataclasses.fields(preset)
        if field.name not in _METHODS
    }
    return ConfigDict(
        {
            "seed": 0,
            "space": {
                "name": space,
                "channels": 16,
                "cells": 5 if space == "nas_bench_201" else 8,
                "nodes": config_dict.placeholder(int),
                "stages": config_dict.placeholder(int),
                "stem_multiplier": config_dict.placeholder(int),
                "stem": config_dict.placeholder(str),
                "subset": config_dict.placeholder(str),
            },
            "data": {
                "name": "cifar10",
                "data_dir": config_dict.placeholder(str),
                "train_limit": config_dict.placeholder(int),
                "crop_padding": 4,
                "flip": True,
                "cutout": 0,
            },
            "search": {
                "relaxation": "softmax",
                "temperature": config_dict.placeholder(float),
                "final_temperature": config_dict.placeholder(float),
                "hard": config_dict.placeholder(bool),
                "hypergradient": "first_order",
                "inner_steps": config_dict.placeholder(int),
                "radius": config_dict.placeholder(float),
                **numbers,
            },
            "table": config_dict.placeholder(str),
            "compare_random": 0,
            "train": recipe.published(space, **train),
        }
    )
