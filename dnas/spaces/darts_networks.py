"""Supernet and discrete network of the DARTS space."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.genotype import Genotype
from dnas.nn.cell import DiscreteCell
from dnas.nn.heads import AuxiliaryHead
from dnas.nn.initial import weight
from dnas.nn.kernels.conv import conv
from dnas.nn.layers import (
    Conv,
    NormMaker,
    batch_statistics,
    factorized_kernel,
    running,
    subsample_pair,
)
from dnas.nn.stack import Stack
from dnas.nn.supernet.cell import MixedCell
from dnas.nn.supernet.fused import FUSED, NORMALISED_POOLS
from dnas.space import Mix, NetworkOutput
from dnas.spaces.validation import check_call
from dnas.tasks import Task

if TYPE_CHECKING:
    from dnas.spaces.darts import DARTS


class Run(NamedTuple):
    """Consecutive cells of one kind and width.

    Attributes:
      first: position of the first cell in the network.
      length: number of cells.
      channels: channels of their nodes.
      reduction: whether they are reduction cells; such runs have length one.
      after_reduction: whether the first cell's older input has twice the resolution.
      inputs: channels of the two inputs of the first cell.
    """

    first: int
    length: int
    channels: int
    reduction: bool
    after_reduction: bool
    inputs: tuple[int, int]


def plan(space: "DARTS", stem_channels: tuple[int, int], after_reduction: bool) -> list[Run]:
    """Divides a network's cells into runs."""
    runs: list[Run] = []
    channels, inputs = space.channels, stem_channels
    for i in range(space.cells):
        reduction = i in space.reductions
        channels *= 2 if reduction else 1
        if runs and not reduction and not runs[-1].reduction:
            runs[-1] = runs[-1]._replace(length=runs[-1].length + 1)
        else:
            runs.append(Run(i, 1, channels, reduction, after_reduction, inputs))
        inputs, after_reduction = (inputs[1], space.nodes * channels), reduction
    return runs


def _pad_channels(x: jax.Array, width: int) -> jax.Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


class DARTSCell(nnx.Module):
    """The graph of a cell, and the normalisations of its two inputs."""

    def __init__(self, graph: nnx.Module, channels: int, norm: NormMaker):
        self.graph = graph
        self.norms = nnx.List([norm(channels), norm(channels)])


class CellRun(nnx.Module):
    """A run of cells as one scan.

    Every cell maps its inputs by a 1x1 convolution to its own width. In a run these differ in
    shape: the first cell's older input may come from before a reduction, through a factorized
    one, and the stem has a width of its own. But a factorized reduction is a 1x1 convolution
    of subsampled pixels, and absent channels are zeros: so all cells of a run are one body.
    """

    def __init__(
        self,
        run: Run,
        nodes: int,
        make_graph: Callable[[Run, nnx.Rngs], nnx.Module],
        make_norm: Callable[[nnx.Rngs], NormMaker],
        *,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        def make_cell(rngs):
            return DARTSCell(make_graph(run, rngs), run.channels, make_norm(rngs))

        self.run, self.nodes = run, nodes
        self.stack = Stack(make_cell, run.length, rngs=rngs, remat=remat)
        outputs = nodes * run.channels
        olders = [run.inputs[0], run.inputs[1]] + [outputs] * run.length
        newers = [run.inputs[1]] + [outputs] * run.length
        self.older = nnx.List(
            self._kernel(olders[i], run.after_reduction and i == 0) for i in range(run.length)
        )
        self.newer = nnx.List(self._kernel(newers[i], False) for i in range(run.length))

    def _kernel(self, channels_in: int, factorized: bool) -> nnx.Param:
        channels = self.run.channels
        shape = (2, channels_in, channels // 2) if factorized else (channels_in, channels)
        return weight(shape, channels_in)

    def __call__(
        self,
        older: jax.Array,
        newer: jax.Array,
        graph: Callable[[nnx.Module, list[jax.Array], Any], list[jax.Array]],
        xs: Any,
        use_running_average: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """The last two outputs, given those of the two cells before.

        Args:
          older: output of the cell before the last one.
          newer: output of the last cell.
          graph: applies a cell's graph to its two inputs, given its entry of `xs`.
          xs: a pytree of arrays with one leading entry for each cell.
          use_running_average: of the batch normalisations.
        """
        run, before = self.run, newer
        kernels = [k[...] for k in self.older], [k[...] for k in self.newer]
        if run.after_reduction:
            older = subsample_pair(older)
            kernels[0][0] = factorized_kernel(kernels[0][0])
        outputs = self.nodes * run.channels
        if run.length > 1:
            width = max(older.shape[-1], newer.shape[-1], outputs)
            older, newer = _pad_channels(older, width), _pad_channels(newer, width)
            kernels = [
                [jnp.pad(k, ((0, width - k.shape[0]), (0, 0))) for k in side] for side in kernels
            ]
        kernels = [jnp.stack(side) for side in kernels]

        def body(cell, carry, x):
            kernels, own = x
            states = [
                norm(
                    conv(jax.nn.relu(state), kernel[None, None]),
                    use_running_average=use_running_average,
                )
                for state, kernel, norm in zip(carry, kernels, cell.norms, strict=True)
            ]
            y = jnp.concatenate(graph(cell.graph, states, own), -1)
            return carry[1], _pad_channels(y, carry[1].shape[-1]) if run.length > 1 else y

        older, newer = self.stack(
            body, (older, newer), (kernels, xs), update=not use_running_average
        )
        return (older[..., :outputs] if run.length > 1 else before), newer[..., :outputs]


class Stem(nnx.Module):
    """The layers before the first cell."""

    def __init__(self, space: "DARTS", task: Task, norm: NormMaker):
        channels = space.stem_multiplier * space.channels
        if space.stem == "cifar":
            plan = [(task.inputs.shape[-1], channels, 1)]
            self.channels = (channels, channels)
        else:
            half = space.channels // 2
            plan = [(task.inputs.shape[-1], half, 2), (half, space.channels, 2)]
            plan.append((space.channels, space.channels, 2))
            self.channels = (space.channels, space.channels)
        self.convs = nnx.List(Conv(a, b, 3, stride=s) for a, b, s in plan)
        self.norms = nnx.List(norm(b) for _, b, _ in plan)

    def __call__(self, x: jax.Array, use_running_average: bool) -> tuple[jax.Array, jax.Array]:
        """The two inputs of the first cell."""
        outputs = []
        for i, (convolve, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = convolve(jax.nn.relu(x) if i else x)
            x = norm(x, use_running_average=use_running_average)
            outputs.append(x)
        return (outputs[-2] if len(outputs) > 1 else outputs[-1]), outputs[-1]


class Skeleton(nnx.Module):
    """What supernet and discrete network have in common: everything around the cells."""

    def __init__(
        self,
        space: "DARTS",
        task: Task,
        make_graph: Callable[[Run, nnx.Rngs], nnx.Module],
        make_norm: Callable[[nnx.Rngs], NormMaker],
        stem_norm: NormMaker,
        *,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        self.space = space
        self.stem = Stem(space, task, stem_norm)
        self.plan = tuple(plan(space, self.stem.channels, space.stem == "imagenet"))
        self.runs = nnx.List(
            CellRun(run, space.nodes, make_graph, make_norm, remat=remat, rngs=rngs)
            for run in self.plan
        )
        kept = [run for run in self.plan if self._is_last_of_stride(run)]
        channels = tuple(space.nodes * run.channels for run in kept)
        self.classifier = task.head(channels, rngs=rngs)

    def _is_last_of_stride(self, run: Run) -> bool:
        after = run.first + run.length
        return after == self.space.cells or after in self.space.reductions

    def features(
        self,
        x: jax.Array,
        graphs: Callable[[Run], tuple[Callable, Any]],
        key: jax.Array | None,
        use_running_average: bool,
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Outputs of the last cell of each stride, and of the second reduction cell.

        Args:
          x: images.
          graphs: for a run, ``(cell, states, (key, own)) -> nodes`` and what each of its cells has
            of its own: a pytree of arrays with a leading axis of cells, or None.
          key: of operations that are random.
          use_running_average: of the batch normalisations.
        """
        keys = None if key is None else jax.random.split(key, self.space.cells)
        older, newer = self.stem(x, use_running_average)
        reduced, kept = newer, []
        for run, cell_run in zip(self.plan, self.runs, strict=True):
            here = None if keys is None else keys[run.first : run.first + run.length]
            graph, own = graphs(run)
            older, newer = cell_run(older, newer, graph, (here, own), use_running_average)
            reduced = newer if run.reduction else reduced
            if self._is_last_of_stride(run):
                kept.append(newer)
        return tuple(kept), reduced


class Supernet(Skeleton):
    """All candidates on all edges; called as `dnas.space.SearchSpace.supernet` says."""

    def __init__(self, space: "DARTS", task: Task, *, rngs: nnx.Rngs):
        fused = {**FUSED, **NORMALISED_POOLS}

        def make_graph(run, rngs):
            return MixedCell(
                run.channels,
                2,
                space.nodes,
                space.candidates("reduce" if run.reduction else "normal"),
                stride=2 if run.reduction else 1,
                mixing=space.mixing,
                fused=fused,
                rngs=rngs,
            )

        super().__init__(
            space,
            task,
            make_graph,
            lambda rngs: batch_statistics(),
            batch_statistics(affine=True),
            remat=True,
            rngs=rngs,
        )

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
        parts = {part: space.part(part).weights(mix, space.mixing) for part in ("normal", "reduce")}

        def graphs(run):
            weights, layered = parts["reduce" if run.reduction else "normal"]
            first = sum((i in space.reductions) == run.reduction for i in range(run.first))
            last = first + run.length

            def graph(cell, states, inputs):
                key, own = inputs
                return cell(
                    states,
                    own if layered else weights,
                    key,
                    auxiliary_skip=auxiliary_skip,
                    skip_dropout=skip_dropout,
                )

            return graph, jax.tree.map(lambda w: w[first:last], weights) if layered else None

        features, _ = self.features(x, graphs, key, use_running_average=False)
        return self.classifier(features)


class Network(Skeleton):
    """One architecture; called as ``net(images, train=False, key=None, drop_path=None)``."""

    def __init__(
        self,
        space: "DARTS",
        genotype: Genotype,
        task: Task,
        *,
        auxiliary: bool,
        rngs: nnx.Rngs,
    ):
        def make_graph(run, rngs):
            return DiscreteCell(
                run.channels,
                2,
                space.nodes,
                genotype["reduce" if run.reduction else "normal"],
                stride=2 if run.reduction else 1,
                norm=running(rngs),
                rngs=rngs,
            )

        super().__init__(space, task, make_graph, running, running(rngs), remat=False, rngs=rngs)
        reductions = [run for run in self.plan if run.reduction]
        self.auxiliary = (
            AuxiliaryHead(
                space.nodes * reductions[-1].channels,
                task,
                norm=running(rngs),
                last_norm=space.stem == "cifar",
                rngs=rngs,
            )
            if auxiliary
            else None
        )

    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        key: jax.Array | None = None,
        drop_path: jax.Array | float | None = None,
    ) -> NetworkOutput:
        """Logits of images ``[batch, height, width, channels]``; auxiliary ones in training."""
        drop = drop_path if train else None
        average = not train

        def graph(cell, states, inputs):
            key, _ = inputs
            return cell(states, use_running_average=average, key=key, drop=drop)

        features, reduced = self.features(x, lambda run: (graph, None), key, average)
        logits = self.classifier(features)
        if self.auxiliary is None or not train:
            return NetworkOutput(logits)
        return NetworkOutput(logits, self.auxiliary(reduced))
