"""Seconds and memory of one search step.

    python -m experiments.benchmarks.step --space=darts --hypergradient=first_order

Prints one row of results.md: seconds to compile and take the first step (without the compilation
cache), the median and the range of seconds a step, and the peak resident memory of the process in
GB, compiling included. Images are random; the step is the one that searches run.
"""

import resource
import statistics
import time

import jax
import numpy as np
from absl import app, flags

from dnas import hypergrad, parallel, presets, spaces
from dnas.data import Augment, preprocess
from dnas.space import Task

SPACES = {"nas_bench_201": spaces.NASBench201, "darts": spaces.DARTS}
HYPERGRADIENTS = {
    "first_order": hypergrad.first_order,
    "unrolled": hypergrad.unrolled,
    "finite_difference": hypergrad.finite_difference,
}

_SPACE = flags.DEFINE_enum("space", "nas_bench_201", list(SPACES), "Search space.")
_METHOD = flags.DEFINE_enum("hypergradient", "first_order", list(HYPERGRADIENTS), "Hypergradient.")
_CHANNELS = flags.DEFINE_integer("channels", 16, "Channels of the supernet.")
_CELLS = flags.DEFINE_integer("cells", None, "Cells; the space's published number by default.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images of each half in a step.")
_SIZE = flags.DEFINE_integer("size", 32, "Height and width of the images.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps to time.")


def batches(size: int, batch: int, rng: np.random.Generator) -> tuple:
    """One random batch for the weights and one for the architecture, on the device."""

    def part():
        images = rng.integers(0, 256, (1, batch, size, size, 3)).astype(np.uint8)
        return {"image": images, "label": rng.integers(0, 10, (1, batch)).astype(np.int32)}

    return jax.device_put((part(), part()))


def main(argv: list[str]) -> None:
    """Builds, compiles, times and prints."""
    del argv
    sizes = {"channels": _CHANNELS.value}
    if _CELLS.value is not None:
        sizes["cells"] = _CELLS.value
    space = SPACES[_SPACE.value](**sizes)
    preset = presets.darts(hypergradient=HYPERGRADIENTS[_METHOD.value]())
    augment = preprocess(Augment(crop_padding=4, flip=True), (0.5,) * 3, (0.25,) * 3)
    search = preset.build(
        space,
        Task((_SIZE.value, _SIZE.value, 3), 10),
        steps_per_epoch=390,
        epochs=50,
        preprocess=augment,
    )
    state = jax.jit(search.init)(jax.random.key(0))
    data = batches(_SIZE.value, _BATCH.value, np.random.default_rng(0))
    advance = parallel.make("none").advance(search.step)

    def once(state):
        start = time.perf_counter()
        state, sums = advance(state, data, 1)
        jax.block_until_ready((state.step, sums))
        return state, time.perf_counter() - start

    state, compilation = once(state)
    seconds = []
    for _ in range(_STEPS.value):
        state, elapsed = once(state)
        seconds.append(elapsed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    median = statistics.median(seconds)
    print(
        f"| {space.name}, C={space.channels}, {space.cells} cells | {_METHOD.value} "
        f"| {_BATCH.value} | {compilation:.0f} | {median:.3g} "
        f"({min(seconds):.3g}-{max(seconds):.3g}) | {peak:.1f} |"
    )


if __name__ == "__main__":
    app.run(main)
