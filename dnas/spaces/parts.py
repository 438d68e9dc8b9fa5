"""Kinds of cells whose edges choose operations: tables, weights and restrictions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from numpy.typing import ArrayLike

from dnas import discretize, edges
from dnas.nn.operations import Operations
from dnas.nn.supernet import weights
from dnas.space import Decision, Mix, Mixing, Weighing


def halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Height and width behind so many layers of stride two."""
    height, width = (math.ceil(side / 2**times) for side in size)
    return height, width


Candidates = tuple[tuple[str, ...], ...]


class Part(NamedTuple):
    """One kind of cell.

    Attributes:
      name: of the part, in tables and genotypes.
      inputs: number of input nodes.
      nodes: number of further nodes.
      candidates: for each edge, the names of its operations.
      layers: how many cells of the supernet are of this kind.
    """

    name: str
    inputs: int
    nodes: int
    candidates: Candidates
    layers: int

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the edges."""
        return weights.rows(self.inputs, self.nodes)

    @property
    def operations(self) -> dict[str, Decision]:
        """One table of operations, or one for each edge where their candidates differ."""
        if len(set(self.candidates)) == 1:
            return {self.name: Operations(self.name, self.rows, self.candidates[0])}
        return {
            f"{self.name}.{row}": Operations(self.name, (row,), edge)
            for row, edge in zip(self.rows, self.candidates, strict=True)
        }

    @property
    def normalization(self) -> dict[str, Decision]:
        """One table for each node with more than one incoming edge: which counts how much."""
        tables = {}
        for node in range(self.inputs, self.inputs + self.nodes):
            incoming = tuple(edges.name(i, node) for i in range(node))
            if len(incoming) > 1:
                tables[f"{self.name}.{node}"] = Weighing(self.name, (str(node),), incoming)
        return tables

    def decisions(self, mixing: Mixing) -> dict[str, Decision]:
        """All tables."""
        return self.operations | (self.normalization if mixing.edge_normalization else {})

    def tables(self, mix: Mapping[str, Any]) -> list[weights.Table]:
        """Rows, options and weights of the tables of operations."""
        return [(d.rows, d.options, mix[name]) for name, d in self.operations.items()]

    def weights(self, mix: Mix, mixing: Mixing) -> tuple[list[weights.EdgeWeights], bool]:
        """What the cells' edges are weighted with, and whether every cell has its own weights.

        Where it has, all weights have a leading axis of cells. This is so as soon as one table of
        the part is ``[layers, rows, options]``.
        """
        decisions = self.decisions(mixing)
        mine = {name: mix[name] for name in decisions}
        layered = any(table.ndim == 3 for table in mine.values())
        if layered:
            for name, (_, rows, options) in decisions.items():
                shape = (self.layers, len(rows), len(options))
                if mine[name].ndim == 3 and mine[name].shape != shape:
                    raise ValueError(
                        f"the weights of table {name!r} have the shape {mine[name].shape};"
                        f" expected {shape} [layers, rows, options], or {shape[1:]} for all layers"
                    )
                mine[name] = jnp.broadcast_to(mine[name], shape)
        sorted_weights = weights.by_source(
            self.tables(mine),
            self.inputs,
            self.nodes,
            edge_weights=self._edge_weights(mine, mixing),
            single_path=mixing.single_path,
            partial=mixing.partial > 1,
        )
        return sorted_weights, layered

    def choosable(self, mix: Mapping[str, ArrayLike], mixing: Mixing) -> list[discretize.Row]:
        """The edges with the weights of their operations, on the host.

        The weight of an edge multiplies those of its operations, as in PC-DARTS' published code.
        """
        scale = {
            edge: weight
            for name, decision in self.normalization.items()
            if mixing.edge_normalization
            for row in discretize.rows(mix[name], decision)
            for edge, weight in zip(row.options, row.weights, strict=True)
        }
        return [
            row._replace(weights=row.weights * scale.get(row.name, 1.0))
            for name, decision in self.operations.items()
            for row in discretize.rows(mix[name], decision)
        ]

    def _edge_weights(self, mix: Mapping[str, Any], mixing: Mixing) -> dict[str, Any]:
        """The weights ``[...]`` of whole edges."""
        if not mixing.edge_normalization:
            return {}
        return {
            edge: mix[name][..., 0, k]
            for name, (_, _, incoming) in self.normalization.items()
            for k, edge in enumerate(incoming)
        }

    def restrict(self, keep: Mapping[str, Sequence[str]]) -> Candidates:
        """The candidates of each edge when some edges keep fewer, in the order they had.

        Raises:
          ValueError: there is no such edge, or it did not have such a candidate.
        """
        unknown = sorted(set(keep) - set(self.rows))
        if unknown:
            raise ValueError(f"{self.name} has no edges {unknown}; expected some of {self.rows}")
        candidates = []
        for row, edge in zip(self.rows, self.candidates, strict=True):
            kept = tuple(keep.get(row, edge))
            if set(kept) - set(edge):
                raise ValueError(
                    f"edge {row!r} of {self.name} cannot keep {kept}; its candidates are {edge}"
                )
            candidates.append(tuple(name for name in edge if name in kept))
        return tuple(candidates)


def restrict(
    parts: Sequence[Part], keep: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, Candidates]:
    """The candidates of those parts that keep fewer on some edges: ``{part: {row: candidates}}``.

    Raises:
      ValueError: there is no such part or edge, or it did not have such a candidate.
    """
    names = [part.name for part in parts]
    unknown = sorted(set(keep) - set(names))
    if unknown:
        raise ValueError(f"no parts {unknown}; expected some of {names}")
    return {part.name: part.restrict(keep[part.name]) for part in parts if part.name in keep}
