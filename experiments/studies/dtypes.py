"""Whether searches in bfloat16 end like those in float32.

    python -m experiments.studies.dtypes                            # digits, minutes on a CPU
    python -m experiments.studies.dtypes --data_dir=data            # CIFAR-10, ten minutes

prints a line for each search, and means and standard deviations over the seeds.
"""

import statistics

from absl import app, flags

import dnas
from dnas.jobs.result import SearchResult

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared CIFAR-10; the digits without it.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Searches in each arithmetic.", lower_bound=2)
_EPOCHS = flags.DEFINE_integer("epochs", None, "20 on digits and 10 on CIFAR-10 by default.")

DTYPES = ("float32", "bfloat16")
METRICS = ("valid_loss", "valid_accuracy", "relative_entropy/cell")


def search(data_dir: str | None, dtype: str, seed: int, epochs: int | None) -> SearchResult:
    """One search by first-order DARTS in a small NAS-Bench-201.

    Args:
      data_dir: CIFAR-10, of which 6,000 images of 16x16 pixels are used; None for the digits.
      dtype: arithmetic of the supernet.
      seed: of everything random.
      epochs: how many; None for the default.
    """
    preset = dnas.presets.darts(alpha_learning_rate=3e-3, dtype=dtype)
    common = {"seed": seed, "batch_size": 64, "progress": False}
    if data_dir is None:
        space = dnas.spaces.NASBench201(channels=8, cells=1, stages=2)
        return dnas.search(space, dnas.data.digits(), preset, epochs=epochs or 20, **common)
    data = dnas.data.pooled(dnas.data.from_tfds("cifar10", data_dir), 2)
    augment = dnas.data.Augment(crop_padding=2, flip=True)
    limits = {"train_limit": 6000, "augment": augment, "epochs": epochs or 10}
    return dnas.search(
        dnas.spaces.NASBench201(channels=8, cells=1), data, preset, **limits, **common
    )


def main(argv: list[str]) -> None:
    """Searches and prints."""
    del argv
    last: dict[str, list[dict[str, float]]] = {dtype: [] for dtype in DTYPES}
    for seed in range(_SEEDS.value):
        for dtype in DTYPES:
            result = search(_DATA_DIR.value, dtype, seed, _EPOCHS.value)
            last[dtype].append(result.history[-1])
            print(f"seed {seed}, {dtype}: {result.genotype}", flush=True)
    for metric in METRICS:
        for dtype in DTYPES:
            values = [line[metric] for line in last[dtype]]
            mean, std = statistics.fmean(values), statistics.stdev(values)
            print(f"{metric}, {dtype}: {mean:.4f} +- {std:.4f}")


if __name__ == "__main__":
    app.run(main)
