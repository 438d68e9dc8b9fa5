"""Initial weights.

Layers declare their weights with `weight` or `uniform`, and a finished network gets all of its
values from `initialise`, in one draw. Drawing them one by one would compile for over a minute: a
DARTS supernet has 300 arrays of weights.
"""

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

_STARTED = 2**31 - 1  # no stream counts so far
Net = TypeVar("Net", bound=nnx.Module)


def weight(shape: tuple[int, ...], fan_in: int, edges: int | None = None) -> nnx.Param:
    """Declares a weight that starts uniform in +-1/sqrt(fan_in).

    This is PyTorch's default for convolutions and affine maps, biases included, which all
    published recipes rest on.

    Args:
      shape: of the weight.
      fan_in: number of inputs that one output sees.
      edges: where it holds the weights of several edges, their axis, counted from the end: stacks
        of cells have further axes in front.
    """
    return uniform(shape, fan_in**-0.5, edges)


def uniform(shape: tuple[int, ...], bound: float, edges: int | None = None) -> nnx.Param:
    """Declares a weight that starts uniform in +-`bound`; `edges` is that of `weight`."""
    return nnx.Param(jnp.zeros(shape), bound=bound, edges=edges)


def initialise(network: Net, rngs: nnx.Rngs) -> Net:
    """Draws the values of all weights that were declared; returns the network."""
    state = nnx.state(network, nnx.Param)
    is_variable = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    declared = [
        v for v in jax.tree.leaves(state, is_leaf=is_variable) if "bound" in v.get_metadata()
    ]
    sizes = [math.prod(v.shape) for v in declared]
    draw = jax.random.uniform(rngs.params(), (sum(sizes),), jnp.float32, -1.0, 1.0)
    draw = lax.optimization_barrier(draw)  # else XLA may draw all of it again for every weight
    for variable, part in zip(declared, lax.split(draw, sizes), strict=True):
        # An assignment to variable[...] would look for shardings, which takes tracers seconds.
        variable.set_value(variable.get_metadata()["bound"] * part.reshape(variable.shape))
    nnx.update(network, state)
    return network


def started(head: Net, rngs: nnx.Rngs) -> Net:
    """Draws the values of a part that may be used in networks that do not know `initialise`.

    The key is a number folded into that of the stream, which gives no key away: a network that
    draws all of its values does so as it would without this.
    """
    return initialise(head, nnx.Rngs(jax.random.fold_in(rngs.params.key[...], _STARTED)))
