"""Cells of networks.

A cell is a directed acyclic graph of nodes. Nodes are numbered; the first ones are the cell's
inputs. Edges are ordered by the node they lead to, then by the node they leave, and named
``'i->j'``. The mixed cells of supernets are `dnas.nn.supernet.cell`'s.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dnas import edges as edge_names
from dnas.nn import operations
from dnas.nn.layers import NormMaker, drop_path


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
            total: jax.Array | float = 0.0
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
            nodes.append(jnp.asarray(total))
        return nodes[self.inputs :]
