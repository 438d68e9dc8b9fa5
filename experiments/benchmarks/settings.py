"""What one row of the benchmark measures, and our search step built from it."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas import presets, spaces
from dnas.data import Augment
from dnas.gradient import hypergrad, relax
from dnas.runtime import parallel
from dnas.runtime.initialize import compiled as compiled_init
from dnas.space import Mixing
from dnas.tasks import Classification

SPACES = {"nas_bench_201": spaces.NASBench201, "darts": spaces.DARTS}
HYPERGRADIENTS = {
    "first_order": hypergrad.first_order,
    "unrolled": hypergrad.unrolled,
    "finite_difference": hypergrad.finite_difference,
}
RELAXATIONS = {"softmax": relax.softmax, "gumbel": relax.gumbel_softmax}
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """One row.

    Attributes:
      space: name of the space.
      channels: of its supernet.
      cells: of its supernet; None for the published number.
      size: height and width of images.
      batch: images of each half in a step.
      hypergradient: its name.
      relaxation: ``'softmax'``, or ``'gumbel'`` for hard samples.
      single_path: whether only the sampled operations are computed.
      dtype: ``'float32'``, ``'tf32'`` or ``'bfloat16'``.
      population: seeds that one program searches with at once.
    """

    space: str = "nas_bench_201"
    channels: int = 16
    cells: int | None = None
    size: int = 32
    batch: int = 64
    hypergradient: str = "first_order"
    relaxation: str = "softmax"
    single_path: bool = False
    dtype: str = "float32"
    population: int = 1

    def __post_init__(self):
        for name, known in (("space", SPACES), ("hypergradient", HYPERGRADIENTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {list(known)}")
        if self.single_path and self.relaxation != "gumbel":
            raise ValueError(
                f"single_path with relaxation={self.relaxation!r}: expected 'gumbel', one-hot mixes"
            )

    def make_space(self) -> spaces.NASBench201 | spaces.DARTS:
        """The space."""
        sizes = {} if self.cells is None else {"cells": self.cells}
        mixing = Mixing(single_path=self.single_path)
        return SPACES[self.space](channels=self.channels, mixing=mixing, **sizes)

    def make_search(self, axis_name: str | None = None) -> tuple[Callable, Callable]:
        """The step and the function that makes its first state from a key, or from one a seed.

        Args:
          axis_name: name of the axis of replicas.
        """
        preset = presets.darts(
            hypergradient=HYPERGRADIENTS[self.hypergradient](),
            relaxation=RELAXATIONS[self.relaxation](),
            dtype=self.dtype,
        )
        search = preset.build(
            self.make_space(),
            Classification(
                *((self.size, self.size, 3), CLASSES, (0.5,) * 3, (0.25,) * 3),
                augment=Augment(crop_padding=4, flip=True),
            ),
            steps_per_epoch=390,
            epochs=50,
            axis_name=axis_name,
        )
        if self.population == 1:
            return search.step, search.init
        return jax.vmap(search.step, (0, None, None)), jax.vmap(search.init)

    def batches(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One random batch for the weights and one for the architecture."""
        rng = np.random.default_rng(0)

        def part():
            images = rng.integers(0, 256, (self.batch, self.size, self.size, 3)).astype(np.uint8)
            return {"image": images, "label": rng.integers(0, CLASSES, self.batch).astype(np.int32)}

        return part(), part()

    def label(self) -> str:
        """The row's first columns."""
        space = self.make_space()
        relaxation = "single path" if self.single_path else self.relaxation
        seeds = f", {self.population} seeds" if self.population > 1 else ""
        return (
            f"| {space.name}, C={space.channels}, {space.cells} cells{seeds} | {self.hypergradient}"
            f" | {relaxation} | {self.dtype} | {self.batch}x{self.size}x{self.size} |"
        )


class Ours:
    """Our step: the one that `dnas.cli.search` runs, with its augmentation.

    Several seeds are one vmapped step; under vmap a single path computes all options.

    Attributes:
      state: of the search.
      batches: of the step, on the device, with an axis of steps in front.
      jaxpr: of the loop of steps; None before `compile`.
      compiled: the compiled loop; None before `compile`.
    """

    def __init__(self, settings: Settings):
        step, init = settings.make_search()
        key = jax.random.key(0)
        if settings.population > 1:
            key = jax.random.split(key, settings.population)
        self.state = compiled_init(init)(key)
        steps = jax.tree.map(lambda x: x[None], settings.batches())
        self.batches = jax.device_put(steps)
        self.loop = parallel.loop(step)
        self.jaxpr: Any = None
        self.compiled: Any = None

    def compile(self) -> dict[str, float]:
        """Compiles; returns the seconds of tracing and of compiling."""
        start = time.perf_counter()
        # The count stays an argument, as in searches: a loop of one step would be taken apart.
        step = jax.jit(self.loop, donate_argnums=0)
        trace = step.trace(self.state, self.batches, jnp.int32(1))
        self.jaxpr, lowered = trace.jaxpr, trace.lower()
        traced = time.perf_counter()
        self.compiled = lowered.compile()
        return {"trace": traced - start, "compile": time.perf_counter() - traced}

    def step(self) -> float:
        """Takes a step; returns its seconds."""
        start = time.perf_counter()
        self.state, sums = self.compiled(self.state, self.batches, jnp.int32(1))
        jax.block_until_ready((self.state.step, sums))
        return time.perf_counter() - start
