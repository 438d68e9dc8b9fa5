"""Recurrent cells, mixed and discrete, and the networks that unroll them over a sequence.

All arrays of a cell are ``[batch, channels]``. A highway gate ``s + sigmoid(c) * (f(h) - s)``
leads from a node's state ``s`` to the next one, with ``[c, h] = s @ W`` (Zilly et al., 2017).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dnas import edges
from dnas.genotype import Genotype
from dnas.nn.initial import uniform
from dnas.space import Mix, NetworkOutput
from dnas.tasks.task import Task, TokenHead

if TYPE_CHECKING:
    from dnas.spaces.recurrent import Recurrent

Activation = Callable[[jax.Array], jax.Array]
NONE = "none"
ACTIVATIONS: Mapping[str, Activation] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}
BOUND = 0.04  # weights start uniform in +-BOUND, as published
EPSILON = 1e-5  # of the batch normalisation


def highway(state: jax.Array, product: jax.Array, activation: Activation) -> jax.Array:
    """The next state, given ``[c, h]``, ``[..., 2 * channels]``."""
    gate, candidate = jnp.split(product, 2, -1)
    return state + jax.nn.sigmoid(gate) * (activation(candidate) - state)


def normalise(x: jax.Array) -> jax.Array:
    """Batch normalisation of ``[batch, channels]``, without scale and shift."""
    deviation = x - x.mean(0)
    return deviation * lax.rsqrt(jnp.square(deviation).mean(0) + EPSILON)


def discrete_cell(
    state: jax.Array,
    kernels: Sequence[jax.Array],
    nodes: Sequence[tuple[str, int]],
    output: Sequence[int],
    mask: jax.Array | None = None,
) -> jax.Array:
    """The output of one architecture's cell.

    Args:
      state: of node 0.
      kernels: what `by_source` made of the nodes' matrices.
      nodes: activation and source of node 1, 2, ...
      output: the nodes whose mean is the output.
      mask: what states are multiplied with before a matrix reads them; None for nothing.
    """
    states, products = [state], {}
    order = sorted({source for _, source in nodes})
    for node, (name, source) in enumerate(nodes, 1):
        if source not in products:  # one product for all nodes that take this one
            read = states[source] if mask is None else states[source] * mask
            takers = [n for n, (_, s) in enumerate(nodes, 1) if s == source]
            product = read @ kernels[order.index(source)]
            products[source] = dict(zip(takers, jnp.split(product, len(takers), -1), strict=True))
        states.append(highway(states[source], products[source][node], ACTIVATIONS[name]))
    return jnp.asarray(sum(states[node] for node in output)) / len(output)


def by_source(kernels: jax.Array, nodes: Sequence[tuple[str, int]]) -> list[jax.Array]:
    """For each node that others take, their matrices side by side.

    Args:
      kernels: of the nodes, ``[nodes, channels, 2 * channels]``.
      nodes: activation and source of node 1, 2, ...
    """
    return [
        jnp.concatenate([kernels[i] for i, (_, s) in enumerate(nodes) if s == source], -1)
        for source in sorted({source for _, source in nodes})
    ]


def mixed_cell(
    state: jax.Array,
    kernels: Sequence[jax.Array],
    weights: jax.Array,
    options: Sequence[str],
    mask: jax.Array | None = None,
) -> jax.Array:
    """The output of all candidates' cell: every node sums over all earlier ones.

    ``s_i = norm(sum_jk p_jk (s_j + sigmoid(c_j) (f_k(h_j) - s_j)))`` with ``[c_j, h_j] = s_j @
    W_i``; every node is normalised, node 0 too (Liu et al., 2019, section 3.1.2).

    Args:
      state: of node 0, not yet normalised.
      kernels: of the nodes, each ``[channels, 2 * channels]``.
      weights: of the candidates, ``[edges, options]``; edges by target, then source.
      options: the names of the candidates.
      mask: what states are multiplied with before a matrix reads them; None for nothing.
    """
    states = normalise(state)[None]
    first = 0
    for kernel in kernels:
        count, batch, channels = states.shape
        read = states if mask is None else states * mask
        product = (read.reshape(-1, channels) @ kernel).reshape(count, batch, -1)
        gate, candidate = jnp.split(product, 2, -1)
        mix = weights[first : first + count, :, None, None]
        chosen = [(k, ACTIVATIONS[name]) for k, name in enumerate(options) if name != NONE]
        # sum_k p_k (s + c (f_k - s)) = P s + c (sum_k p_k f_k - P s) with P = sum_k p_k
        kept = sum(mix[:, k] for k, _ in chosen) * states
        activated = sum(mix[:, k] * activation(candidate) for k, activation in chosen)
        total = (kept + jax.nn.sigmoid(gate) * (activated - kept)).sum(0)
        states = jnp.concatenate([states, normalise(total)[None]])
        first += count
    return states[1:].mean(0)


class Model(nnx.Module):
    """What supernet and discrete network share: all weights, and the way through a sequence."""

    def __init__(self, space: "Recurrent", task: Task, *, rngs: nnx.Rngs):
        channels = space.channels
        self.space = space
        head = task.head((channels, channels), rngs=rngs)
        if not isinstance(head, TokenHead):
            raise ValueError(
                f"the head of the task {task.name!r} is a {type(head).__name__}; recurrent "
                "networks need a dnas.tasks.TokenHead, with a method `embed`"
            )
        self.head: Any = head
        self.word_dropout = 0.0
        self.entry = uniform((2 * channels, 2 * channels), BOUND)
        self.kernels = uniform((space.nodes, channels, 2 * channels), BOUND)

    def initial_carry(self, batch_size: int) -> jax.Array:
        """The last output at the beginning of a text: zeros ``[batch, channels]``."""
        return self.space.initial_carry(batch_size)

    def unroll(
        self,
        inputs: tuple[jax.Array, jax.Array],
        cell: Callable[[jax.Array, jax.Array | None], jax.Array],
        key: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs of the head, and the new carry.

        Args:
          inputs: tokens int ``[batch, time]`` and the carry ``[batch, channels]``.
          cell: ``(state of node 0, mask of states) -> output``.
          key: of the dropout masks; None drops nothing.
        """
        space, (tokens, carry) = self.space, inputs
        word_key, *keys = [None] * 5 if key is None else jax.random.split(key, 5)
        rates = space.input_dropout, space.cell_dropout, space.hidden_dropout, space.output_dropout
        embedded, inner, hidden, outer = (
            dropout_mask(k, rate, carry.shape) for k, rate in zip(keys, rates, strict=True)
        )
        # Time comes first in here.
        x = self.head.embed(tokens.T, 0.0 if key is None else self.word_dropout, word_key)
        x = masked(masked(x, embedded), inner)
        entry = self.entry[...].astype(x.dtype)
        # The input's part of node 0 needs no recurrence: one product for all times.
        entered = x @ entry[: space.channels]

        def step(last, product):
            product = product + masked(last, hidden) @ entry[space.channels :]
            new = cell(highway(last, product, jnp.tanh), hidden)
            return new, new

        carry, features = lax.scan(step, carry.astype(x.dtype), entered)
        left = masked(features, outer)
        outputs = self.head((jnp.swapaxes(features, 0, 1), jnp.swapaxes(left, 0, 1)))
        return outputs, carry.astype(jnp.float32)


def dropout_mask(key: jax.Array | None, rate: float, shape: tuple[int, ...]) -> jax.Array | None:
    """Zeros with that probability, else ``1 / (1 - rate)``; None where nothing is dropped."""
    if key is None or not rate:
        return None
    return jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)


def masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """What a mask leaves of an array."""
    return x if mask is None else x * mask.astype(x.dtype)


class Supernet(Model):
    """All candidates on all edges; called as `dnas.spaces.Recurrent.supernet` says."""

    def __call__(
        self, inputs: tuple[jax.Array, jax.Array], mix: Mix, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs of the head for every token, and the new carry."""
        kernels = list(self.kernels[...])
        [(name, decision)] = self.space.decisions.items()

        def cell(state, mask):
            return mixed_cell(state, kernels, mix[name], decision.options, mask)

        return self.unroll(inputs, cell, key)


class Network(Model):
    """One architecture; called as `dnas.spaces.Recurrent.network` says."""

    def __init__(self, space: "Recurrent", genotype: Genotype, task: Task, *, rngs: nnx.Rngs):
        super().__init__(space, task, rngs=rngs)
        [part] = genotype.parts()
        nodes = {edges.ends(r)[1]: (o, edges.ends(r)[0]) for r, o in genotype[part].items()}
        self.nodes = tuple(nodes[node] for node in sorted(nodes))
        self.output = tuple(space.output(genotype))
        self.word_dropout = space.word_dropout

    def __call__(
        self,
        inputs: tuple[jax.Array, jax.Array],
        train: bool = False,
        key: jax.Array | None = None,
        drop_path: jax.Array | float | None = None,
    ) -> tuple[NetworkOutput, jax.Array]:
        """Outputs of the head for every token, and the new carry; paths are never dropped."""
        del drop_path
        kernels = by_source(self.kernels[...], self.nodes)

        def cell(state, mask):
            cast = [kernel.astype(state.dtype) for kernel in kernels]
            return discrete_cell(state, cast, self.nodes, self.output, mask)

        outputs, carry = self.unroll(inputs, cell, key if train else None)
        return NetworkOutput(outputs), carry
