"""Stopping single operations: OLES, operation-level early stopping (Jiang et al., 2023).

Operations with weights overfit the training half while alphas are judged by the validation half,
which hands the edges to operations without weights. OLES watches each operation on each edge of
each cell, and ends its training when its two gradients no longer point the same way.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dnas import checks
from dnas.nn.supernet.owners import Owners

Params = Any

SUM_THRESHOLD = 0.4  # as published; see `oles`


class Frozen(NamedTuple):
    """How far a rule has gone, as scalars.

    Attributes:
      share: of all operations, the share that is frozen.
      at_once: of all operations, the largest share that a single decision froze.
    """

    share: jax.Array
    at_once: jax.Array


class Freeze(NamedTuple):
    """A rule that freezes weights, as pure functions.

    Attributes:
      init: ``(params, owners) -> state``; the owners say which operation each parameter belongs
        to, see `dnas.nn.supernet.owners`.
      update: ``(train_gradient, valid_gradient, state, owners) -> (mask, state)``: gradients of the
        two losses in params, averaged over replicas; the mask has the structure of params and
        zeros for what is frozen, else ones, in shapes that broadcast. It is for the *updates* of
        the optimizer: momentum and decay would go on moving weights whose gradient is masked.
      frozen: ``state -> Frozen``; a search asks it after every epoch.
    """

    init: Callable[[Params, Owners], Any]
    update: Callable[[Params, Params, Any, Owners], tuple[Params, Any]]
    frozen: Callable[[Any], Frozen]


class OLESState(NamedTuple):
    """What OLES remembers; the arrays ``[cells, edges]`` are by operation.

    Attributes:
      frozen: which operations are frozen.
      total: sums of cosines in this window.
      seen: how many cosines these are.
      step: number of updates.
      at_once: see `Frozen`.
    """

    frozen: dict[str, jax.Array]
    total: dict[str, jax.Array]
    seen: dict[str, jax.Array]
    step: jax.Array
    at_once: jax.Array


def oles(window: int = 20, threshold: float | None = None, against: str = "sum") -> Freeze:
    """Freezes operations whose training and validation gradients disagree (Jiang et al., 2023).

    Every `window` steps, an operation whose mean cosine over these steps is below the threshold
    is frozen for the rest of the search. The cosine is that between the training gradient of all
    weights of one operation, as one vector, and what `against` names:

    - ``'sum'``: the sum of training and validation gradient. This is what the authors' program
      computes, since its weights still hold the training gradient when validation adds to it, and
      what the published threshold of 0.4 was chosen for. It is about 0.7 for gradients of equal
      norms that have nothing in common.
    - ``'valid'``: the validation gradient alone, the paper's formula. It is about 0.1 on average
      early in searches on CIFAR-10, so that 0.4 would freeze all operations at once.

    The authors' program averages the cosines of single columns of each weight instead, compares a
    training gradient, clipped, with the next step's validation gradient, and divides the sum of 21
    cosines by 20. Steps in which one of the gradients is zero, because a single-path relaxation
    left the operation out, do not count.

    Args:
      window: steps between two decisions; published as 20.
      threshold: of the mean cosine; the published 0.4 by default against the sum. Against the
        validation gradient there is no default.
      against: what the training gradient is compared with, ``'sum'`` or ``'valid'``.

    Raises:
      ValueError: a number is out of range, there is no such comparison, or its threshold is
        missing; later, a supernet has no operation to freeze.
    """
    checks.whole("window", window)
    if against not in ("sum", "valid"):
        raise ValueError(f"against={against!r}: expected 'sum' or 'valid'")
    if threshold is None:
        if against == "valid":
            raise ValueError(
                "threshold is missing: the published 0.4 belongs to against='sum'; cosines with "
                "the validation gradient alone are about 0.1, so choose one below that"
            )
        threshold = SUM_THRESHOLD
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold={threshold!r}: expected a cosine, from -1 to 1")

    def init(params: Params, owners: Owners) -> OLESState:
        if not owners:
            raise ValueError(
                "freeze: no parameter of this supernet belongs to a candidate operation, so there "
                "is nothing to freeze; leave it out, or build the supernet of "
                "`dnas.nn.supernet.mixed.MixedEdges`"
            )
        shapes = jax.eval_shape(lambda params: _by_operation(params, params, owners), params)

        def zeros(dtype):
            return jax.tree.map(lambda x: jnp.zeros(x.shape, dtype), shapes)

        step, at_once = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        return OLESState(zeros(bool), zeros(float), zeros(float), step, at_once)

    def update(train_gradient, valid_gradient, state, owners):
        other = valid_gradient
        if against == "sum":
            other = jax.tree.map(jnp.add, train_gradient, valid_gradient)
        cosines = _cosines(train_gradient, other, owners)
        counts = jax.tree.map(
            lambda t, v: (t > 0) & (v > 0),
            _by_operation(train_gradient, train_gradient, owners),
            _by_operation(valid_gradient, valid_gradient, owners),
        )
        total = jax.tree.map(lambda s, x, c: s + jnp.where(c, x, 0.0), state.total, cosines, counts)
        seen = jax.tree.map(jnp.add, state.seen, counts)
        step = state.step + 1
        decide = step % window == 0
        frozen = jax.tree.map(
            lambda f, t, n: f | (decide & (n > 0) & (t < threshold * n)), state.frozen, total, seen
        )
        total, seen = jax.tree.map(lambda x: jnp.where(decide, 0.0, x), (total, seen))
        at_once = jnp.maximum(state.at_once, _share(frozen) - _share(state.frozen))
        return _mask(train_gradient, frozen, owners), OLESState(frozen, total, seen, step, at_once)

    return Freeze(init, update, lambda state: Frozen(_share(state.frozen), state.at_once))


def _by_operation(a: Params, b: Params, owners: Owners) -> dict[str, jax.Array]:
    """Inner products of two trees of gradients, ``[cells, edges]`` for each operation."""
    sums: dict[str, jax.Array] = {}

    def add(path, x, y):
        if (found := owners.get(_keys(path))) is not None:
            name, axis = found
            product = (x * y).astype(jnp.float32)
            product = product[..., None] if axis is None else jnp.moveaxis(product, axis, -1)
            product = product.sum(tuple(range(1, product.ndim - 1)))
            sums[name] = sums[name] + product if name in sums else product

    jax.tree_util.tree_map_with_path(add, a, b)
    return sums


def _cosines(a: Params, b: Params, owners: Owners) -> dict[str, jax.Array]:
    """Cosines between two trees of gradients, ``[cells, edges]``; 0 where one of them is zero."""
    lengths = (_by_operation(x, x, owners) for x in (a, b))
    norms = jax.tree.map(lambda x, y: jnp.sqrt(x) * jnp.sqrt(y), *lengths)
    products = _by_operation(a, b, owners)
    return jax.tree.map(
        lambda p, n: jnp.where(n > 0, p / jnp.where(n > 0, n, 1.0), 0.0), products, norms
    )


def _share(frozen: dict[str, jax.Array]) -> jax.Array:
    """The share of all operations that is frozen."""
    return jnp.concatenate([x.reshape(-1) for x in frozen.values()]).mean(dtype=jnp.float32)


def _mask(params: Params, frozen: dict[str, jax.Array], owners: Owners) -> Params:
    def mask(path, x):
        if (found := owners.get(_keys(path))) is None:
            return jnp.ones((), x.dtype)
        name, axis = found
        shape = [len(x)] + [1] * (x.ndim - 1)
        if axis is not None:
            shape[axis] = x.shape[axis]
        return jnp.where(frozen[name], 0, 1).astype(x.dtype).reshape(shape)

    return jax.tree_util.tree_map_with_path(mask, params)


def _keys(path: tuple) -> tuple[Hashable, ...]:
    return tuple(key.key for key in path)
