"""The NAS-Bench-201 space (Dong and Yang, 2020).

Three stages of equal cells with residual reductions between them. A cell has four nodes; each
node takes the sum of one operation on every earlier node.

Compared with the published definitions in float64 NumPy (tests/parity), values agree to 2e-5 of
the largest of each array, gradients to 2e-4: supernet, discrete network in training and after it,
running averages, and two bilevel iterations of each order. Numbers of parameters are those of the
benchmark's table, for all 15,625 architectures.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dnas import discretize
from dnas.checks import shown
from dnas.genotype import Genotype
from dnas.nn.cell import DiscreteCell
from dnas.nn.initial import initialise
from dnas.nn.kernels import pool
from dnas.nn.layers import Conv, NormMaker, ReluConvNorm, batch_statistics, running
from dnas.nn.stack import Stack
from dnas.nn.supernet.cell import MixedCell
from dnas.nn.supernet.fused import FUSED
from dnas.space import PLAIN, Decision, Mix, Mixing, NetworkOutput, Site
from dnas.spaces import parts, published
from dnas.spaces.validation import (
    check_call,
    check_choices,
    check_counts,
    check_headless,
    check_images,
    check_mixing,
    check_part,
)
from dnas.tasks import Task

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclasses.dataclass(frozen=True)
class NASBench201:
    """The topology space of NAS-Bench-201.

    Attributes:
      channels: channels of the first stage; every reduction doubles them.
      cells: cells in a stage.
      nodes: nodes of a cell, its input among them.
      operations: candidates on every edge.
      stages: stages, with a reduction between each two.
      edges: candidates for each edge, where they differ; else None.
      mixing: how the supernet mixes its candidates.
    """

    channels: int = 16
    cells: int = 5
    nodes: int = 4
    operations: tuple[str, ...] = OPERATIONS
    stages: int = 3
    edges: parts.Candidates | None = None
    mixing: Mixing = PLAIN

    name = "nas_bench_201"

    def __post_init__(self):
        check_counts(self, "channels", "cells", "stages")
        check_counts(self, "nodes", least=2)  # an input and one node
        check_part(self.part)
        check_mixing(self.mixing, self.channels)

    @property
    def part(self) -> parts.Part:
        """The only kind of cell."""
        edges_in_all = self.nodes * (self.nodes - 1) // 2
        own = (self.operations,) * edges_in_all if self.edges is None else self.edges
        return parts.Part("cell", 1, self.nodes - 1, own, self.stages * self.cells)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """One table, as published six edges of five operations; else one for each edge."""
        return self.part.decisions(self.mixing)

    @property
    def layers(self) -> Mapping[str, int]:
        """For each table, the number of cells."""
        return dict.fromkeys(self.decisions, self.part.layers)

    def sites(self, task: Task) -> list[Site]:
        """The cells of each stage."""
        size = task.inputs.shape[:2]
        return [
            Site("cell", self.channels * 2**s, parts.halved(size, s), self.cells)
            for s in range(self.stages)
        ]

    def restrict(self, keep: Mapping[str, Mapping[str, Sequence[str]]]) -> "NASBench201":
        """The space in which some edges have fewer candidates: ``{'cell': {row: candidates}}``."""
        kept = parts.restrict([self.part], keep)
        return dataclasses.replace(self, edges=kept["cell"]) if kept else self

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> "Supernet":
        """The network of all candidates."""
        check_images(self.name, task)
        return initialise(Supernet(self, task, rngs=rngs), rngs)

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> "Network":
        """The network of one genotype; this space has no auxiliary head."""
        check_headless(self.name, auxiliary)
        self.validate(genotype)
        check_images(self.name, task)
        return initialise(Network(self, genotype, task, rngs=rngs), rngs)

    def discretize(self, mix: Mapping[str, ArrayLike]) -> Genotype:
        """Every edge takes its strongest operation."""
        rows = self.part.choosable(mix, self.mixing)
        return Genotype.create(self.name, {"cell": discretize.argmax_of(rows)})

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Every edge takes any of its operations."""
        rows, candidates = self.part.rows, self.part.candidates
        picks = rng.integers([len(edge) for edge in candidates])
        return Genotype.create(
            self.name,
            {"cell": {r: edge[p] for r, edge, p in zip(rows, candidates, picks, strict=True)}},
        )

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError unless the genotype names one operation for every edge."""
        check_choices(genotype, self.name, ("cell",))
        rows, chosen = self.part.rows, genotype["cell"]
        if set(chosen) != set(rows):
            raise ValueError(f"expected the edges {rows}, got {shown(tuple(chosen))}")
        for row, candidates in zip(rows, self.part.candidates, strict=True):
            if chosen[row] not in candidates:
                raise ValueError(
                    f"edge {row!r} has the operation {shown(chosen[row])}; "
                    f"expected one of {candidates}"
                )

    def parse(self, text: str) -> Genotype:
        """Reads ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
        genotype = published.parse_nas_bench_201(text)
        self.validate(genotype)
        return genotype

    def format(self, genotype: Genotype) -> str:
        """Writes that form."""
        self.validate(genotype)
        return published.format_nas_bench_201(genotype)


class ResidualReduction(nnx.Module):
    """A residual block that halves height and width."""

    def __init__(self, channels_in: int, channels_out: int, *, norm: NormMaker):
        make = functools.partial(ReluConvNorm, norm=norm)
        self.first = make(channels_in, channels_out, 3, stride=2)
        self.second = make(channels_out, channels_out, 3)
        self.shortcut = Conv(channels_in, channels_out, 1)

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """Maps ``[batch, height, width, channels_in]``."""
        y = self.second(self.first(x, use_running_average), use_running_average)
        return y + self.shortcut(pool.halve(x))


class Skeleton(nnx.Module):
    """What supernet and discrete network have in common: everything around the cells."""

    def __init__(
        self,
        space: NASBench201,
        task: Task,
        make_cell: Callable[[int, nnx.Rngs], nnx.Module],
        norm: NormMaker,
        *,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        widths = [space.channels * 2**stage for stage in range(space.stages)]
        self.stem = Conv(task.inputs.shape[-1], widths[0], 3)
        self.stem_norm = norm(widths[0])
        self.stages = nnx.List(
            Stack(functools.partial(make_cell, width), space.cells, rngs=rngs, remat=remat)
            for width in widths
        )
        self.reductions = nnx.List(
            ResidualReduction(a, b, norm=norm) for a, b in itertools.pairwise(widths)
        )
        self.last_norm = norm(widths[-1])
        self.classifier = task.head(tuple(widths), rngs=rngs)

    def run(self, x: jax.Array, body: Callable, xs: Any, use_running_average: bool) -> jax.Array:
        """What the head says; `body` applies a cell, `xs` are arrays ``[stages, cells, ...]``."""
        x = self.stem_norm(self.stem(x), use_running_average=use_running_average)
        features = []
        for i, stage in enumerate(self.stages):
            if i > 0:
                features.append(x)
                x = self.reductions[i - 1](x, use_running_average)
            own = jax.tree.map(lambda v, i=i: v[i], xs)
            x = stage(body, x, own, update=not use_running_average)
        x = jax.nn.relu(self.last_norm(x, use_running_average=use_running_average))
        return self.classifier((*features, x))


def _keys(key: jax.Array | None, space: NASBench201) -> jax.Array | None:
    return None if key is None else jax.random.split(key, (space.stages, space.cells))


class Supernet(Skeleton):
    """All candidates on all edges; called as `dnas.space.SearchSpace.supernet` says."""

    def __init__(self, space: NASBench201, task: Task, *, rngs: nnx.Rngs):
        self.space = space

        def make_cell(width, rngs):
            return MixedCell(
                width,
                1,
                space.nodes - 1,
                space.part.candidates,
                mixing=space.mixing,
                fused=FUSED,
                rngs=rngs,
            )

        norm = batch_statistics(affine=True)
        super().__init__(space, task, make_cell, norm, remat=True, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        mix: Mix,
        key: jax.Array | None = None,
        *,
        auxiliary_skip: jax.Array | float | None = None,
        skip_dropout: jax.Array | float | None = None,
    ) -> jax.Array:
        """Logits ``[batch, classes]`` of images ``[batch, height, width, channels]``."""
        space = self.space
        check_call(space.mixing, key, auxiliary_skip, skip_dropout)
        weights, layered = space.part.weights(mix, space.mixing)
        shape = (space.stages, space.cells)
        own = jax.tree.map(lambda w: w.reshape(*shape, *w.shape[1:]), weights) if layered else None

        def body(cell, x, inputs):
            key, own = inputs
            return cell(
                [x],
                own if layered else weights,
                key,
                auxiliary_skip=auxiliary_skip,
                skip_dropout=skip_dropout,
            )[-1]

        return self.run(x, body, (_keys(key, space), own), use_running_average=False)


class Network(Skeleton):
    """One architecture; called as ``net(images, train=False, key=None, drop_path=None)``."""

    def __init__(self, space: NASBench201, genotype: Genotype, task: Task, *, rngs: nnx.Rngs):
        self.space = space

        def make_cell(width, rngs):
            return DiscreteCell(
                width, 1, space.nodes - 1, genotype["cell"], norm=running(rngs), rngs=rngs
            )

        super().__init__(space, task, make_cell, running(rngs), remat=False, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        key: jax.Array | None = None,
        drop_path: jax.Array | float | None = None,
    ) -> NetworkOutput:
        """Logits of images ``[batch, height, width, channels]``."""
        drop = drop_path if train else None

        def body(cell, x, key):
            return cell([x], use_running_average=not train, key=key, drop=drop)[-1]

        keys = _keys(key, self.space)
        return NetworkOutput(self.run(x, body, keys, use_running_average=not train))
