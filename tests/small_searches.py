"""Every preset on the smallest of spaces, and what it found there when it was recorded.

    python tests/small_searches.py [FILE]

records it anew. A change of the structure leaves every number as it is on one machine, bit for bit:
record before and after, and compare the files. The test allows for the rounding of processors.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

from dnas import data as datasets
from dnas import presets, selection
from dnas.jobs.search import search
from dnas.spaces import nas_bench_201

GOLDEN = pathlib.Path(__file__).parent / "golden" / "presets.json"
SPACE = nas_bench_201.NASBench201(
    channels=4, cells=1, stages=1, nodes=3, operations=("none", "skip_connect", "avg_pool_3x3")
)
EPOCHS = 3  # P-DARTS has three stages
# What is at the end costs time on top of the epochs, and has tests of its own.
SHORT = {
    "darts_pt": {"selection": presets.part(selection.perturbation, epochs=0.5)},
    "random_weight_sharing": {"selection": presets.part(selection.best_of_samples, count=4)},
    "dnas": {"selection": presets.part(selection.short_trainings, epochs=0.5, count=4, longer=1)},
}


def tiny_data():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 4, 4, 1), np.uint8), np.arange(32) % 3
    return datasets.from_arrays(images, labels, images[:3], labels[:3])


def space_of(name):
    changes = {
        "lambda_darts": {"cells": 2},  # which align
        "oles": {"operations": ("none", "skip_connect", "nor_conv_1x1")},  # with weights to freeze
    }
    return dataclasses.replace(SPACE, **changes.get(name, {}))


def run(name, folder):
    preset = presets.PRESETS[name](alpha_learning_rate=0.05, **SHORT.get(name, {}))
    options = {"epochs": EPOCHS, "batch_size": 4, "progress": False, "workdir": folder}
    return search(space_of(name), tiny_data(), preset, **options)


def facts(result):
    """Losses, alphas and genotype of a search as plain data, in which nothing is rounded."""
    return {
        "history": [{k: float(v) for k, v in line.items()} for line in result.history],
        "alphas": {
            key: np.asarray(table[-1], np.float64).tolist()
            for key, table in result.trajectory.items()
            if key.startswith("alphas/")
        },
        "genotype": {part: result.genotype[part] for part in result.genotype.parts()},
    }


def recorded(name):
    """What a preset found when it was recorded."""
    return json.loads(GOLDEN.read_text())[name]


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    path.write_text(json.dumps({name: facts(run(name, None)) for name in presets.PRESETS}) + "\n")
