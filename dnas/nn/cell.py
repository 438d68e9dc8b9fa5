"""Cells: directed acyclic graphs of nodes, mixed in supernets and discrete in networks.

Nodes are numbered; the first ones are the cell's inputs. Edges are ordered by the node they
lead to, then by the node they leave, and named ``'i->j'``.
"""

import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dnas import edges as edge_names
from dnas.nn import operations
from dnas.nn.fused import FusedMaker
from dnas.nn.layers import NormMaker, drop_path
from dnas.nn.mixed import MixedEdges, users


def edges(inputs: int, nodes: int) -> tuple[tuple[int, int], ...]:
    """All edges of a cell with that many inputs and further nodes: ``((0, 1), ...)``."""
    return tuple((i, j) for j in range(inputs, inputs + nodes) for i in range(j))


def rows(inputs: int, nodes: int) -> tuple[str, ...]:
    """The names of those edges: ``('0->1', ...)``."""
    return tuple(edge_names.name(i, j) for i, j in edges(inputs, nodes))


# For each node that edges leave, and each operation, the mixing weights on its edges that have it.
MixedWeights = list[dict[str, jax.Array]]


def by_source(
    tables: Sequence[tuple[tuple[str, ...], tuple[str, ...], jax.Array]], inputs: int, nodes: int
) -> MixedWeights:
    """Sorts the mixing weights of a cell in the way its fused operations take them.

    Args:
      tables: rows, options and weights ``[rows, options]`` of the tables that hold the cell's
        edges, in the order of the edges.
      inputs: number of input nodes.
      nodes: number of further nodes.
    """
    places = {row: (t, r) for t, (rows, _, _) in enumerate(tables) for r, row in enumerate(rows)}
    sorted_weights = []
    for source in range(inputs + nodes - 1):
        mine = [places[edge_names.name(i, j)] for i, j in edges(inputs, nodes) if i == source]
        blocks = [
            (tables[t][1], tables[t][2][jnp.array([r for _, r in group])])
            for t, group in itertools.groupby(mine, key=lambda place: place[0])
        ]
        candidates = tuple(options for options, block in blocks for _ in block)
        sorted_weights.append(
            {
                name: jnp.concatenate(
                    [block[:, options.index(name)] for options, block in blocks if name in options]
                )
                for name in users(candidates)
            }
        )
    return sorted_weights


class MixedCell(nnx.Module):
    """A cell of a supernet.

    Args:
      channels: channels of every node.
      inputs: number of input nodes.
      nodes: number of further nodes.
      candidates: for each edge, the names of its operations.
      stride: of the edges that leave an input.
      fused: fused forms of operations, by name.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        inputs: int,
        nodes: int,
        candidates: tuple[tuple[str, ...], ...],
        *,
        stride: int = 1,
        fused: Mapping[str, FusedMaker],
        rngs: nnx.Rngs,
    ):
        self.inputs, self.nodes = inputs, nodes
        self.edges = edges(inputs, nodes)
        self.sources = nnx.List(
            MixedEdges(
                channels,
                tuple(c for c, (i, _) in zip(candidates, self.edges, strict=True) if i == source),
                stride if source < inputs else 1,
                fused=fused,
                rngs=rngs,
            )
            for source in range(inputs + nodes - 1)
        )

    def __call__(
        self,
        states: Sequence[jax.Array],
        weights: MixedWeights,
        key: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Computes the nodes.

        Args:
          states: the inputs, ``[batch, height, width, channels]`` each.
          weights: what `by_source` returns.
          key: for operations that are random.

        Returns:
          The further nodes.
        """
        terms: dict[int, list[jax.Array]] = {j: [] for _, j in self.edges}
        nodes = list(states)
        for source, mixed in enumerate(self.sources):
            if source >= self.inputs:
                nodes.append(sum(terms[source]))
            mine = [e for e, (i, _) in enumerate(self.edges) if i == source]
            outputs = mixed(
                nodes[source],
                weights[source],
                None if key is None else jax.random.fold_in(key, source),
            )
            for e, output in zip(mine, outputs, strict=True):
                terms[self.edges[e][1]].extend(output)
        nodes.append(sum(terms[self.inputs + self.nodes - 1]))
        return nodes[self.inputs :]


class DiscreteCell(nnx.Module):
    """A cell of a discrete network.

    Args:
      channels: channels of every node.
      inputs: number of input nodes.
      nodes: number of further nodes.
      choices: operation names by edge; edges left out do not exist.
      stride: of the edges that leave an input.
      norm: makes the operations' batch normalisation.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        inputs: int,
        nodes: int,
        choices: Mapping[str, str],
        *,
        stride: int = 1,
        norm: NormMaker,
        rngs: nnx.Rngs,
    ):
        self.inputs, self.nodes = inputs, nodes
        self.edges = tuple(edge_names.ends(row) for row in choices)
        self.stride = stride
        self.operations = nnx.List(
            operations.make(name, channels, stride if i < inputs else 1, norm=norm, rngs=rngs)
            for name, (i, _) in zip(choices.values(), self.edges, strict=True)
        )

    def __call__(
        self,
        states: Sequence[jax.Array],
        *,
        use_running_average: bool,
        key: jax.Array | None = None,
        drop: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Computes the nodes.

        Args:
          states: the inputs, ``[batch, height, width, channels]`` each.
          use_running_average: of the batch normalisations.
          key: for path dropping and for operations that are random.
          drop: probability that a path is dropped; None for no dropping. Identities stay.

        Returns:
          The further nodes.
        """
        nodes = list(states)
        for j in range(self.inputs, self.inputs + self.nodes):
            total = 0.0
            for e, (i, target) in enumerate(self.edges):
                operation = self.operations[e]
                if target != j or isinstance(operation, operations.Zero):
                    continue
                here, path = (
                    (None, None) if key is None else jax.random.split(jax.random.fold_in(key, e))
                )
                y = operation(nodes[i], use_running_average=use_running_average, key=here)
                if drop is not None and not isinstance(operation, operations.Identity):
                    y = drop_path(y, drop, path)
                total = total + y
            if isinstance(total, float):
                total = jnp.zeros_like(nodes[0][:, :: self.stride, :: self.stride])
            nodes.append(total)
        return nodes[self.inputs :]
