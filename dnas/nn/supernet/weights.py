"""Mixing weights of a cell, sorted in the way that its edges take them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas import edges as edge_names
from dnas.nn import operations

# Rows, options and weights [..., rows, options] of one table of decisions.
Table = tuple[tuple[str, ...], tuple[str, ...], jax.Array]


class Chosen(NamedTuple):
    """The single paths of the edges that leave one node.

    Attributes:
      option: position of the option among the edge's candidates, ``[..., edges]``.
      weight: its weight, ``[..., edges]``.
    """

    option: jax.Array
    weight: jax.Array


class EdgeWeights(NamedTuple):
    """The weights of the edges that leave one node; leading axes stand for several cells.

    Attributes:
      operations: for each operation that is a connection, the weights ``[..., edges]`` of the
        edges that have it; or the edges' single paths.
      edges: what the whole edges are multiplied with, ``[..., edges]``; None for ones. The
        weights of operations contain it.
      bypass: what goes around the operations of partial channels is multiplied with, likewise:
        the edge's weight, or zero where no connection has any. None where nothing does.
    """

    operations: dict[str, jax.Array] | Chosen
    edges: jax.Array | None = None
    bypass: jax.Array | None = None


def edges(inputs: int, nodes: int) -> tuple[tuple[int, int], ...]:
    """All edges of a cell with that many inputs and further nodes: ``((0, 1), ...)``."""
    return tuple((i, j) for j in range(inputs, inputs + nodes) for i in range(j))


def rows(inputs: int, nodes: int) -> tuple[str, ...]:
    """The names of those edges: ``('0->1', ...)``."""
    return tuple(edge_names.name(i, j) for i, j in edges(inputs, nodes))


def users(candidates: tuple[tuple[str, ...], ...]) -> dict[str, tuple[int, ...]]:
    """For each operation that is a connection, the positions of the edges that have it."""
    names = sorted({name for edge in candidates for name in operations.connections(edge)})
    return {name: tuple(e for e, edge in enumerate(candidates) if name in edge) for name in names}


def by_source(
    tables: Sequence[Table],
    inputs: int,
    nodes: int,
    *,
    edge_weights: Mapping[str, jax.Array] | None = None,
    single_path: bool = False,
    partial: bool = False,
) -> list[EdgeWeights]:
    """Sorts the mixing weights of a cell by the nodes that its edges leave.

    Args:
      tables: the tables that hold the cell's edges, in the order of the edges.
      inputs: number of input nodes.
      nodes: number of further nodes.
      edge_weights: weights ``[...]`` by edge; edges left out have weight one.
      single_path: whether only the option of the largest weight counts, on each edge.
      partial: whether some channels go around the operations.

    Returns:
      The weights for each node that edges leave.
    """
    places = {row: (t, r) for t, (rows, _, _) in enumerate(tables) for r, row in enumerate(rows)}
    sorted_weights = []
    for source in range(inputs + nodes - 1):
        names = [edge_names.name(i, j) for i, j in edges(inputs, nodes) if i == source]
        blocks = [
            (tables[t][1], tables[t][2][..., jnp.array([r for _, r in group]), :])
            for t, group in itertools.groupby(
                (places[name] for name in names), key=lambda place: place[0]
            )
        ]
        here = _edge_weights(names, edge_weights, blocks[0][1])
        sort = _choose if single_path else _by_operation
        bypass = _bypass(blocks, here) if partial else None
        sorted_weights.append(EdgeWeights(sort(blocks, here), here, bypass))
    return sorted_weights


def _bypass(blocks, edge_weights) -> jax.Array:
    """An edge that is left out, or whose sample is zero, takes its bypass along.

    In a search with mixed operations no edge is.
    """
    there = [
        (block[..., np.array([not operations.traits(name).zero for name in options])] != 0).any(-1)
        for options, block in blocks
    ]
    there = jnp.concatenate(there, -1)
    return there.astype(blocks[0][1].dtype) if edge_weights is None else there * edge_weights


def _edge_weights(names, edge_weights, like) -> jax.Array | None:
    if not edge_weights:
        return None
    one = jnp.ones(like.shape[:-2], like.dtype)
    return jnp.stack([edge_weights.get(name, one) for name in names], -1)


def _by_operation(blocks, edge_weights) -> dict[str, jax.Array]:
    candidates = tuple(options for options, block in blocks for _ in range(block.shape[-2]))
    weights = {}
    for name, positions in users(candidates).items():
        mine = [block[..., options.index(name)] for options, block in blocks if name in options]
        weights[name] = jnp.concatenate(mine, -1)
        if edge_weights is not None:
            weights[name] = weights[name] * edge_weights[..., jnp.array(positions)]
    return weights


def _choose(blocks, edge_weights) -> Chosen:
    options = [block.argmax(-1) for _, block in blocks]
    weights = [
        jnp.take_along_axis(block, option[..., None], -1)[..., 0]
        for (_, block), option in zip(blocks, options, strict=True)
    ]
    weight = jnp.concatenate(weights, -1)
    if edge_weights is not None:
        weight = weight * edge_weights
    return Chosen(jnp.concatenate(options, -1), weight)
