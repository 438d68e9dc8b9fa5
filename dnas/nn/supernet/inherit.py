"""Weights and alphas of one supernet as the start of another, larger or restricted one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnas.nn.supernet.mixed import MixedEdges
from dnas.nn.supernet.owners import Owners, owners
from dnas.space import Alphas, Decision, SearchSpace
from dnas.tasks import Task

Params = Any  # nested dictionaries of arrays, as `flax.nnx.to_pure_dict` makes them


def inherit(
    old_space: SearchSpace,
    old_params: Params,
    new_space: SearchSpace,
    new_params: Params,
    task: Task,
) -> Params:
    """Copies the weights of a trained supernet to one that grew or lost candidates.

    The spaces may differ in

    - their candidates, where the new one has some of the old one's (P-DARTS, Chen et al., 2019;
      DrNAS, Chen et al., 2021): what is left is copied, so that the new supernet computes what the
      old one does when the lost candidates have no weight;
    - the number of cells, where the new one has more: in a run of equal cells (a stage of
      NAS-Bench-201, the normal cells between two reductions of DARTS) the further ones start as
      copies of the old run's last cell;
    - the share of partial channels, where the new one's is larger (DrNAS' progressive widening):
      channel ``i`` of the new weights is channel ``i % n`` of the old ``n``. DrNAS draws the
      channels to copy at random; repeating them in order needs no key, and copies each equally
      often.

    Weights without a counterpart of fitting shape keep their new values: those of candidates, of
    auxiliary skip connections or of input convolutions that the old supernet did not have. Works
    as well for what optimizers keep in the shape of the weights, such as momentum. Everything
    happens on the host.

    Args:
      old_space: space of the trained supernet.
      old_params: its weights.
      new_space: space of the other supernet.
      new_params: the other's initial weights.
      task: what both are for.

    Returns:
      Weights like `new_params`.

    Raises:
      ValueError: an edge of the new space has candidates that the old one lacks, the supernets'
        runs of cells do not correspond, or a weight became smaller in another way.
    """
    old, new = (_supernet(space, task) for space in (old_space, new_space))
    known = _Kept(_kept_edges(old_space, old, new_space, new), owners(new))
    return _inherit(old_params, new_params, (), known)


def inherit_alphas(
    old_space: SearchSpace, alphas: Alphas, new_space: SearchSpace, new_alphas: Alphas
) -> Alphas:
    """Copies the architecture parameters of all rows and options that both spaces have.

    Args:
      old_space: the space of `alphas`.
      alphas: tables ``[rows, options]``.
      new_space: the space of `new_alphas`; its tables may be cut otherwise, one for each edge
        instead of one for a kind of cell, say.
      new_alphas: what the rows and options start with that only the new space has.

    Returns:
      Tables like `new_alphas`.
    """
    known = {
        place: alphas[name][index]
        for name, decision in old_space.decisions.items()
        for index, place in _places(decision)
    }
    inherited = dict(new_alphas)
    for name, decision in new_space.decisions.items():
        for index, place in _places(decision):
            if place in known:
                inherited[name] = inherited[name].at[index].set(known[place])
    return inherited


def _places(decision: Decision) -> list[tuple[tuple[int, int], tuple[str, str, str]]]:
    """Every entry of a table, by index, with its part, row and option."""
    return [
        ((r, o), (decision.part, row, option))
        for r, row in enumerate(decision.rows)
        for o, option in enumerate(decision.options)
    ]


class _Edges(NamedTuple):
    """One operation: how many edges the old supernet has it on, and which of them are left."""

    before: int
    kept: np.ndarray


class _Kept(NamedTuple):
    """What is known of the new supernet's operations and parameters, by their places."""

    edges: Mapping[tuple, _Edges]
    owners: Owners


def _supernet(space: SearchSpace, task: Task) -> nnx.Module:
    return nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0)))


def _kept_edges(
    old_space: SearchSpace, old_net: nnx.Module, new_space: SearchSpace, new_net: nnx.Module
) -> dict[tuple, _Edges]:
    """For each operation of the new supernet, by its place, the edges that keep it."""
    old, new = (
        {path: module for path, module in nnx.iter_modules(net) if isinstance(module, MixedEdges)}
        for net in (old_net, new_net)
    )
    strides = [{path: mixed.stride for path, mixed in net.items()} for net in (old, new)]
    if strides[0] != strides[1]:
        raise ValueError(
            f"the cells of {old_space} do not correspond to those of {new_space}: expected as many "
            "runs of equal cells, with reductions at the same places"
        )
    kept = {}
    for path, mixed in new.items():
        for name, edges in mixed.users.items():
            before = old[path].users.get(name, ())
            if set(edges) - set(before):
                raise ValueError(
                    f"{name!r} is a candidate of the new space on edges where it is none of the "
                    f"old space, at {'/'.join(map(str, path))}: only restrictions inherit weights"
                )
            positions = np.array([before.index(edge) for edge in edges])
            kept[*path, "operations", name] = _Edges(len(before), positions)
    return kept


def _inherit(old: Params, new: Params, path: tuple, known: _Kept) -> Params:
    if not isinstance(new, dict):
        return _inherit_array(old, new, path, known)
    inherited = {}
    for key, value in new.items():
        source = key
        if path[-1:] == ("edges",) and path[:-1] in known.edges:  # an operation that is not fused
            source = int(known.edges[path[:-1]].kept[key])
        if source in old:
            inherited[key] = _inherit(old[source], value, (*path, key), known)
        else:
            inherited[key] = _like_last(old, value, key)
    return inherited


def _like_last(old: Params, new: Params, key: Any) -> Params:
    """For a further entry of a list the last one, where that has the same shape."""
    if isinstance(key, int) and old:
        last = old[max(old)]
        if jax.tree.map(jnp.shape, last) == jax.tree.map(jnp.shape, new):
            return last
    return new


def _inherit_array(old: jax.Array, new: jax.Array, path: tuple, known: _Kept) -> jax.Array:
    inherited = np.asarray(old)  # NumPy's indexing: JAX would compile one for every shape
    owner = known.owners.get(path)
    if owner is not None and owner.axis is not None:
        place = next(path[:i] for i in range(len(path)) if path[:i] in known.edges)
        inherited = inherited.take(known.edges[place].kept, owner.axis)
    if "cells" in path and old.ndim == new.ndim:
        for axis, (n, m) in enumerate(zip(inherited.shape, new.shape, strict=True)):
            if axis == 0 and n < m:  # further cells are like the last one
                inherited = inherited[np.minimum(np.arange(m), n - 1)]
            elif n < m:  # wider partial channels
                inherited = inherited.take(np.arange(m) % n, axis)
    if inherited.shape != new.shape:
        if "cells" not in path and isinstance(path[-1], int):
            return new  # an input convolution, now of a cell with other inputs
        raise ValueError(
            f"the weight {'/'.join(map(str, path))} has the shape {old.shape} in the old supernet, "
            f"{new.shape} in the new one; expected fewer candidates, more cells or wider partial "
            "channels, and else the same space and task"
        )
    return jnp.asarray(inherited)
