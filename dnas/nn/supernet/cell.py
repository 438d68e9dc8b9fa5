"""Mixed cells: those of supernets; `dnas.nn.cell` has the discrete ones, and what a cell is."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn.kernels.spread import pin
from dnas.nn.supernet import partial
from dnas.nn.supernet.fused import FusedMaker
from dnas.nn.supernet.mixed import MixedEdges
from dnas.nn.supernet.single_path import SinglePathEdges
from dnas.nn.supernet.weights import EdgeWeights, edges
from dnas.space import PLAIN, Mixing


class MixedCell(nnx.Module):
    """A cell of a supernet.

    Args:
      channels: channels of every node.
      inputs: number of input nodes.
      nodes: number of further nodes.
      candidates: for each edge, the names of its operations.
      stride: of the edges that leave an input.
      mixing: how the candidates are mixed.
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
        mixing: Mixing = PLAIN,
        fused: Mapping[str, FusedMaker],
        rngs: nnx.Rngs,
    ):
        self.inputs, self.nodes, self.parts = inputs, nodes, mixing.partial
        self.edges = edges(inputs, nodes)
        make = SinglePathEdges if mixing.single_path else MixedEdges
        self.sources = nnx.List(
            make(
                channels // mixing.partial,
                tuple(c for c, (i, _) in zip(candidates, self.edges, strict=True) if i == source),
                stride if source < inputs else 1,
                fused=fused,
                auxiliary_skip=mixing.auxiliary_skip,
                rngs=rngs,
            )
            for source in range(inputs + nodes - 1)
        )

    def __call__(
        self,
        states: Sequence[jax.Array],
        weights: Sequence[EdgeWeights],
        key: jax.Array | None = None,
        *,
        auxiliary_skip: jax.Array | None = None,
        skip_dropout: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Computes the nodes.

        Args:
          states: the inputs, ``[batch, height, width, channels]`` each.
          weights: what `dnas.nn.supernet.weights.by_source` returns.
          key: for operations that are random, and for dropout.
          auxiliary_skip: weight of the auxiliary skip connections; None leaves them out.
          skip_dropout: probability that an element behind an identity skip is dropped.

        Returns:
          The further nodes.
        """
        terms: dict[int, list[jax.Array]] = {j: [] for _, j in self.edges}
        bypasses: dict[int, list[jax.Array]] = {j: [] for _, j in self.edges}
        nodes = list(states)
        for source, mixed in enumerate(self.sources):
            if source >= self.inputs:
                nodes.append(self._node(terms[source], bypasses[source]))
            operated, bypass = nodes[source], None
            if self.parts > 1:
                operated, bypass = partial.split(operated, self.parts)
                bypass = partial.bypass(bypass, mixed.stride)
            outputs = mixed(
                operated,
                weights[source],
                None if key is None else jax.random.fold_in(key, source),
                auxiliary_skip=auxiliary_skip,
                skip_dropout=skip_dropout,
            )
            targets = [j for i, j in self.edges if i == source]
            for e, (target, output) in enumerate(zip(targets, outputs, strict=True)):
                terms[target].extend(output)
                weight = weights[source].bypass
                if bypass is not None and weight is not None:
                    bypasses[target].append(bypass * weight[e].astype(bypass.dtype))
        last = self.inputs + self.nodes - 1
        nodes.append(self._node(terms[last], bypasses[last]))
        return nodes[self.inputs :]

    def _node(self, terms: list[jax.Array], bypasses: list[jax.Array]) -> jax.Array:
        """A node, the sum of its edges; the shuffle of a sum is the sum of shuffles."""
        node = jnp.asarray(sum(terms))
        if bypasses:
            node = partial.join(node, jnp.asarray(sum(bypasses)), self.parts)
        return pin(node)
