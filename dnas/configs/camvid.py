"""Segmentation of street scenes: a cell of NAS-Bench-201, and whether the search helped.

Give an archive of CamVid (Brostow et al., 2009) with x_train, y_train, x_test and y_test of 96x128
pixels, in which 11 is void: --config.data.path=camvid_96x128.npz. Images are averaged over squares
of two pixels here, and networks are small.

Expected: ten minutes on two busy CPU cores. Seed 0 found a cell with a mean IoU of 32.9 +- 0.8 %
(three trainings) where three random ones had 29.9, 29.5 and 32.7 %. The found one is the largest.
"""

from typing import Any

from dnas.configs import base
from dnas.data import Augment
from dnas.training.recipe import Recipe, Settings, section


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    recipe = Recipe(
        epochs=15,
        batch_size=16,
        learning_rate=0.05,
        nesterov=True,
        weight_decay=5e-4,
        clip_norm=5.0,
        augment=Augment(flip=True),
    )
    config = base.own(
        space={"name": "nas_bench_201", "channels": 8, "cells": 1, "stages": 3},
        data={"name": "segmented", "void": 11, "pool": 2, "augment": {"flip": True}},
        train=section(Settings(recipe, channels=8, cells=1, seeds=(0, 1, 2))),
    )
    config.search.update(epochs=20, batch_size=16, learning_rate=0.05, alpha_learning_rate=0.01)
    config.compare_random = 3
    return config
