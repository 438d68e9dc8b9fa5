"""Single paths: of each edge only one operation is computed, forward and backward."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dnas.nn import operations
from dnas.nn.layers import dropout
from dnas.nn.supernet.fused import FusedMaker
from dnas.nn.supernet.mixed import EdgeByEdge, MixedEdges
from dnas.nn.supernet.weights import EdgeWeights

# Edges of so few options are computed one by one. Those of more share one loop body: that halves
# the time in which a DARTS step compiles, and takes 0.36 s instead of 0.5 (3 cells, batch 8).
_UNROLLED_OPTIONS = 5


class SinglePathEdges(MixedEdges):
    """`MixedEdges` of which each edge computes the one option that its `Chosen` weights name.

    Arguments and parameters are those of the mixed edges, so that one can take the other's. The
    result is the option's output times its weight: a one-hot mix whose backward pass is that of a
    soft one gives alphas a gradient through the chosen weight (GDAS; Dong and Yang, 2019).

    Each edge is a `lax.switch`. Under `jax.vmap` over different choices that turns into a
    selection among the outputs of all options, which are then all computed.
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
        super().__init__(
            channels, candidates, stride, fused=fused, auxiliary_skip=auxiliary_skip, rngs=rngs
        )
        self.candidates, self.channels, self.fused = candidates, channels, fused

    def __call__(
        self,
        x: jax.Array,
        weights: EdgeWeights,
        key: jax.Array | None = None,
        *,
        auxiliary_skip: jax.Array | None = None,
        skip_dropout: jax.Array | None = None,
    ) -> list[list[jax.Array]]:
        """Arguments and result as of `MixedEdges`, with weights whose operations are `Chosen`."""
        skips = self._auxiliary_skips(x, weights, auxiliary_skip)
        terms = [[y[..., e, :] for y in skips] for e in range(self.edges)]
        for names in dict.fromkeys(self.candidates):
            group = [e for e, own in enumerate(self.candidates) if own == names]
            paths, params = zip(
                *(self._path(name, group, skip_dropout) for name in names), strict=True
            )
            # Recomputed in the backward pass, an option leaves nothing behind but its input, which
            # all share. Else a switch keeps, and fills with zeros, what any option leaves behind.
            branches = [
                jax.checkpoint(functools.partial(_own, path, i), prevent_cse=False)
                for i, path in enumerate(paths)
            ]

            @jax.jit  # traced once for all edges
            def edge(option, weight, params, branches=branches):
                return lax.switch(option, branches, weight, params, x, key)

            chosen = jax.tree.map(lambda w, group=group: w[jnp.array(group)], weights.operations)
            inputs = [
                (*jax.tree.map(lambda w, i=i: w[i], chosen), own)
                for i, own in enumerate(zip(*params, strict=True))
            ]
            for e, output in zip(group, _each(edge, inputs, len(names)), strict=True):
                terms[e].append(output)
        return terms

    def _path(
        self, name: str, edges: Sequence[int], skip_dropout: jax.Array | None
    ) -> tuple[Callable, list[Any]]:
        """One option: ``(its parameters on one edge, weight, x, key) -> output``; those of `edges`.

        The weight is part of the operation, whose normalisation multiplies by it.
        """
        if operations.traits(name).zero:
            zeros = lambda params, weight, x, key: jnp.zeros_like(  # noqa: E731
                x[:, :: self.stride, :: self.stride]
            )
            return zeros, [()] * len(edges)
        operation, index = self.operations[name], list(self.users).index(name)
        positions = [self.users[name].index(e) for e in edges]
        fused = not isinstance(operation, EdgeByEdge)
        if fused:
            graph = nnx.graphdef(self.fused[name](self.channels, 1, self.stride))
            own = [_one_edge(nnx.state(operation), position) for position in positions]
        else:
            graph = nnx.graphdef(operation.edges[0])
            own = [nnx.to_pure_dict(nnx.state(operation.edges[p])) for p in positions]

        def apply(params, weight, x, key):
            params, position = params
            if key is not None:  # that of the mixed edges
                key = jax.random.fold_in(jax.random.fold_in(key, index), position)
            module = nnx.merge(graph, nnx.State(params))
            if fused:
                y = module(x, weight[None])[..., 0, :]
            else:
                y = module(x, key=key) * weight.astype(x.dtype)
            if skip_dropout is not None and self._hands_on(name):
                y = dropout(y, skip_dropout, key)
            return y

        return apply, [(o, jnp.int32(p)) for o, p in zip(own, positions, strict=True)]


def _own(path: Callable, i: int, weight: jax.Array, params: Any, x: jax.Array, key) -> jax.Array:
    return path(params[i], weight, x, key)


def _each(edge: Callable[..., jax.Array], inputs: Sequence[Any], options: int) -> Sequence[Any]:
    """The outputs of all edges, unrolled or in one loop."""
    if options <= _UNROLLED_OPTIONS:
        return [edge(*own) for own in inputs]
    stacked = jax.tree.map(lambda *own: jnp.stack(own), *inputs)
    outputs = lax.scan(lambda _, own: (None, edge(*own)), None, stacked)[1]
    return [outputs[i] for i in range(len(inputs))]


def _one_edge(state: nnx.State, edge: int) -> dict[str, Any]:
    """The parameters of a fused operation on one of its edges, as if it had no others."""

    def of_edge(path: tuple, variable: nnx.Variable) -> jax.Array:
        del path
        axis = variable.get_metadata().get("edges")
        whole = variable[...]
        return whole if axis is None else lax.slice_in_dim(whole, edge, edge + 1, axis=axis)

    return nnx.to_pure_dict(nnx.map_state(of_edge, state))
