"""All keys of a search's config with their published values, for the configs to change.

Keys that are None are left to the method or the space; on the command line they take a value of
their type.
"""

from ml_collections import ConfigDict, config_dict

from dnas.jobs import recipe


def make(space: str, **train) -> ConfigDict:
    """The config of a search of a space's published size by the default method.

    ``config.preset`` names the method; what is set in ``config.search`` changes its numbers.

    Args:
      space: ``'nas_bench_201'`` or ``'darts'``.
      **train: changes to the published recipe of that space; see `dnas.jobs.recipe.published`.
    """
    return ConfigDict(
        {
            "seed": 0,
            "preset": "dnas",
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
                "path": config_dict.placeholder(str),
                "size": config_dict.placeholder(int),
                "train_limit": config_dict.placeholder(int),
                "pool": 1,
                "crop_padding": 4,
                "flip": True,
                "cutout": 0,
            },
            "search": {
                "relaxation": config_dict.placeholder(str),
                "temperature": config_dict.placeholder(float),
                "final_temperature": config_dict.placeholder(float),
                "hard": config_dict.placeholder(bool),
                "hypergradient": config_dict.placeholder(str),
                "inner_steps": config_dict.placeholder(int),
                "radius": config_dict.placeholder(float),
                "terms": config_dict.placeholder(int),
                "series_learning_rate": config_dict.placeholder(float),
                "iterations": config_dict.placeholder(int),
                "damping": config_dict.placeholder(float),
                "regularizer": config_dict.placeholder(str),
                "regularizer_weight": config_dict.placeholder(float),
                "final_regularizer_weight": config_dict.placeholder(float),
                "perturbation": config_dict.placeholder(str),
                "perturbation_radius": config_dict.placeholder(float),
                "final_perturbation_radius": config_dict.placeholder(float),
                "stopping": config_dict.placeholder(str),
                "skip_limit": config_dict.placeholder(int),
                "selection": config_dict.placeholder(str),
                "skips": config_dict.placeholder(int),
                "deviations": config_dict.placeholder(float),
                "tuning_epochs": config_dict.placeholder(float),
                "samples": config_dict.placeholder(int),
                "training_epochs": config_dict.placeholder(float),
                "epochs": config_dict.placeholder(int),
                "warmup": config_dict.placeholder(float),
                "alpha_interval": config_dict.placeholder(int),
                "batch_size": config_dict.placeholder(int),
                "learning_rate": config_dict.placeholder(float),
                "final_learning_rate": config_dict.placeholder(float),
                "momentum": config_dict.placeholder(float),
                "weight_decay": config_dict.placeholder(float),
                "clip_norm": config_dict.placeholder(float),
                "alpha_learning_rate": config_dict.placeholder(float),
                "alpha_betas": config_dict.placeholder(tuple),
                "alpha_weight_decay": config_dict.placeholder(float),
                "alpha_scale": config_dict.placeholder(float),
            },
            "table": config_dict.placeholder(str),
            "compare_random": 0,
            "train": recipe.published(space, **train),
        }
    )
