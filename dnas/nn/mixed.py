"""Mixed operations: all edges that leave one node are computed together.

The edges of a supernet's cell that leave one node see the same input, so that `dnas.nn.fused`
computes an operation for all of them at once. Whatever has no fused form, an operation that a
user registered for instance, is computed edge by edge.
"""

import functools
import operator
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn import operations
from dnas.nn.fused import FusedMaker
from dnas.nn.layers import batch_statistics


class EdgeByEdge(nnx.Module):
    """An operation without a fused form, once for every edge."""

    def __init__(self, name: str, channels: int, edges: int, stride: int, *, rngs: nnx.Rngs):
        norm = batch_statistics()
        self.edges = nnx.List(
            operations.make(name, channels, stride, norm=norm, rngs=rngs) for _ in range(edges)
        )

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Maps `x`; every edge has a key of its own."""
        keys = [None if key is None else jax.random.fold_in(key, e) for e in range(len(self.edges))]
        return jnp.stack([op(x, key=k) for op, k in zip(self.edges, keys, strict=True)], -2)


class MixedEdges(nnx.Module):
    """The mixed operations on all edges that leave one node.

    Args:
      channels: channels of the node, and of every output.
      candidates: for each edge, the names of its operations.
      stride: of every edge.
      fused: fused forms by operation name; others are computed edge by edge.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        candidates: tuple[tuple[str, ...], ...],
        stride: int,
        *,
        fused: Mapping[str, FusedMaker],
        rngs: nnx.Rngs,
    ):
        self.edges = len(candidates)
        self.users = users(candidates)
        self.operations = nnx.Dict(
            {
                name: fused[name](channels, len(edges), stride)
                if name in fused
                else EdgeByEdge(name, channels, len(edges), stride, rngs=rngs)
                for name, edges in self.users.items()
            }
        )

    def __call__(
        self, x: jax.Array, weights: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> list[list[jax.Array]]:
        """Computes what every edge adds to the node it leads to.

        Args:
          x: the node, ``[batch, height, width, channels]``.
          weights: for each operation, the mixing weights on the edges that have it.
          key: for operations that are random.

        Returns:
          For each edge the terms of a sum.
        """
        everywhere = []
        terms: list[list[jax.Array]] = [[] for _ in range(self.edges)]
        for i, (name, edges) in enumerate(self.users.items()):
            operation = self.operations[name]
            if isinstance(operation, EdgeByEdge):
                y = operation(x, None if key is None else jax.random.fold_in(key, i))
            else:
                y = operation(x)
            y = y * weights[name][:, None].astype(y.dtype)
            if len(edges) == self.edges:
                everywhere.append(y)
                continue
            for position, edge in enumerate(edges):
                terms[edge].append(y[..., position, :])
        if everywhere:
            total = functools.reduce(operator.add, everywhere)
            for edge in range(self.edges):
                terms[edge].append(total[..., edge, :])
        return terms


def users(candidates: tuple[tuple[str, ...], ...]) -> dict[str, tuple[int, ...]]:
    """For each operation but 'none', the positions of the edges that have it."""
    names = sorted({name for edge in candidates for name in edge} - {"none"})
    return {name: tuple(e for e, edge in enumerate(candidates) if name in edge) for name in names}
