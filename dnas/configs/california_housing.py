"""Prices of houses from a CSV file: layers of dense networks, and whether the search helped.

Give the file of California's districts of 1990 (Pace and Barry, 1997), 20,640 rows, in the form
with the column `ocean_proximity`: --config.data.path=california_housing.csv. For a table of your
own, name the column to predict, too: --config.data.target=price.

Expected: four minutes on two busy CPU cores. Seed 0 found a network with R2 of 0.806 +- 0.003
(three trainings) where five random ones had 0.742 +- 0.024. It has wide layers, tanh and relu, and
no dropout.
"""

from typing import Any

from dnas.configs import base
from dnas.training.recipe import Recipe, Settings, section


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    recipe = Recipe(epochs=20, batch_size=128, learning_rate=0.05, weight_decay=1e-5, clip_norm=5.0)
    config = base.own(
        space={"name": "dense"},
        data={"name": "csv", "target": "median_house_value"},
        train=section(Settings(recipe, channels=None, cells=None, seeds=(0, 1, 2))),
    )
    config.search.update(epochs=20, batch_size=128, alpha_learning_rate=3e-3)
    config.compare_random = 5
    return config
