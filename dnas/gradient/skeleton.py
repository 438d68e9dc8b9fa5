"""A supernet as a function of its weights."""

import functools
import math
from typing import Any, NamedTuple

import jax
from flax import nnx

from dnas.space import SearchSpace
from dnas.tasks.task import Task


def merge(graph: nnx.GraphDef, params: Any) -> nnx.Module:
    """A module from its graph and the plain arrays of its parameters."""
    return nnx.merge(graph, nnx.State(params))


class Skeleton(NamedTuple):
    """A supernet without its weights.

    Attributes:
      graph: for `merge`.
      weights: how many there are.
      params: their shapes, for `merge`.
    """

    graph: nnx.GraphDef
    weights: int
    params: nnx.State


@functools.lru_cache(maxsize=16)
def skeleton(space: SearchSpace, task: Task) -> Skeleton:
    """The supernet of a space, from shapes alone.

    Raises:
      ValueError: there is more than weights in it.
    """
    abstract = nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0)))
    graph, params, others = nnx.split(abstract, nnx.Param, ...)
    if jax.tree.leaves(others):
        names = sorted({type(v).__name__ for _, v in nnx.to_flat_state(others)})
        raise ValueError(
            f"the supernet of {space.name!r} holds state beside its weights ({', '.join(names)}); "
            "operations must take randomness from `key` and batch normalisation from `norm`"
        )
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
    return Skeleton(graph, count, params)
