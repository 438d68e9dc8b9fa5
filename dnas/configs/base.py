"""A search with its published sizes, for the configs to change.

What is left out has the value of the method, or of the space. `dnas search --help` lists all keys.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dnas.presets.kinds import KINDS
from dnas.training import published


def make(space: str, **train) -> Any:
    """The config of a search of a space's published size, by first-order DARTS on CIFAR-10.

    ``config.preset`` names the method; what is set in ``config.search`` changes it.

    Args:
      space: ``'nas_bench_201'`` or ``'darts'``.
      **train: changes to the published recipe of that space; see `dnas.training.published`.
    """
    size = {"name": space, "channels": 16, "cells": 5 if space == "nas_bench_201" else 8}
    data = {"name": "cifar10", "augment": {"crop_padding": 4, "flip": True}}
    return own(size, data, published.published(space, **train))


def own(space: Mapping[str, Any], data: Mapping[str, Any], train: Mapping[str, Any]) -> Any:
    """The config of a search by first-order DARTS, from its sections.

    Args:
      space: name and settings of the space.
      data: name and settings of the data set.
      train: how architectures are trained, as `dnas.training.recipe.section` makes it.
    """
    return ConfigDict(
        {
            "seed": 0,
            "preset": "darts",
            "space": dict(space),
            "data": dict(data),
            "search": {kind: {} for kind in KINDS},
            "compare_random": 0,
            "train": dict(train),
        }
    )
