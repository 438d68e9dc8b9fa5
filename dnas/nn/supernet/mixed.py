"""Mixed operations: all edges that leave one node are computed together.

The edges of a supernet's cell that leave one node see the same input, so that
`dnas.nn.supernet.fused` computes an operation for all of them at once. Whatever has no fused form,
an operation that a user registered for instance, is computed edge by edge.
"""

import functools
import operator
from collections.abc import Mapping
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn import operations
from dnas.nn.kernels.spread import unstack
from dnas.nn.layers import batch_statistics, dropout
from dnas.nn.supernet.fused import FusedMaker, skip
from dnas.nn.supernet.weights import EdgeWeights, users


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
      auxiliary_skip: whether every edge has a skip connection outside of the mix (DARTS-; Chu
        et al., 2021), with weights of its own where the stride is 2.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        candidates: tuple[tuple[str, ...], ...],
        stride: int,
        *,
        fused: Mapping[str, FusedMaker],
        auxiliary_skip: bool = False,
        rngs: nnx.Rngs,
    ):
        self.edges, self.stride = len(candidates), stride
        self.users = users(candidates)
        self.operations = nnx.Dict(
            {
                name: fused[name](channels, len(edges), stride)
                if name in fused
                else EdgeByEdge(name, channels, len(edges), stride, rngs=rngs)
                for name, edges in self.users.items()
            }
        )
        self.auxiliary = skip(channels, self.edges, stride) if auxiliary_skip else None

    def __call__(
        self,
        x: jax.Array,
        weights: EdgeWeights,
        key: jax.Array | None = None,
        *,
        auxiliary_skip: jax.Array | None = None,
        skip_dropout: jax.Array | None = None,
    ) -> list[list[jax.Array]]:
        """Computes what every edge adds to the node it leads to.

        Args:
          x: the node, ``[batch, height, width, channels]``.
          weights: of these edges.
          key: for operations that are random, and for dropout.
          auxiliary_skip: weight of the auxiliary skip connections; None leaves them out.
          skip_dropout: probability that an element behind an identity skip is dropped.

        Returns:
          For each edge the terms of a sum.
        """
        everywhere = self._auxiliary_skips(x, weights, auxiliary_skip)
        mixed = cast(Mapping[str, jax.Array], weights.operations)  # no single paths here
        terms: list[list[jax.Array]] = [[] for _ in range(self.edges)]
        for i, (name, edges) in enumerate(self.users.items()):
            operation = self.operations[name]
            here = None if key is None else jax.random.fold_in(key, i)
            mine = mixed[name]
            if isinstance(operation, EdgeByEdge):
                y = operation(x, here) * mine[:, None].astype(x.dtype)
            else:
                y = operation(x, mine)
            if skip_dropout is not None and self._hands_on(name):
                y = dropout(y, skip_dropout, here)
            if len(edges) == self.edges:
                everywhere.append(y)
                continue
            for position, edge in enumerate(edges):
                terms[edge].append(y[..., position, :])
        return _spread(everywhere, terms)

    def _hands_on(self, name: str) -> bool:
        """Whether an operation is an identity on these edges."""
        return operations.traits(name).identity and self.stride == 1

    def _auxiliary_skips(
        self, x: jax.Array, weights: EdgeWeights, weight: jax.Array | None
    ) -> list[jax.Array]:
        """The term of the auxiliary skip connections on all edges, if there is one."""
        if weight is None:
            return []
        if self.auxiliary is None:
            raise ValueError(
                "auxiliary_skip: these edges have no auxiliary skip connections; search a space"
                " with Mixing(auxiliary_skip=True)"
            )
        on_edges = jnp.ones(self.edges) if weights.edges is None else weights.edges
        y = self.auxiliary(x)
        return [y * (weight * on_edges)[:, None].astype(y.dtype)]


def _spread(everywhere: list[jax.Array], terms: list[list[jax.Array]]) -> list[list[jax.Array]]:
    """Adds to the terms of each edge the sum of those ``[..., edges, channels]`` of all edges."""
    if everywhere:
        total = functools.reduce(operator.add, everywhere)
        for mine, image in zip(terms, unstack(total), strict=True):
            mine.append(image)
    return terms
