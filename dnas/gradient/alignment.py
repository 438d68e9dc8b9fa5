"""Layer alignment: cells that share a table should ask for the same change of it.

Cells share their mixing weights, so that a table moves along the sum of its cells' gradients.
Lambda-DARTS (Movahedi et al., 2023) measures how well they agree by the mean cosine between the
gradients of any two cells, each with respect to its own copy of the table. The layer alignment is a
regulariser of the *weights* there, ``L_train - weight * alignment`` (`align_weights`): the weights
adapt until cells agree, instead of alphas following the cells nearest to the output.

The published code takes the term's gradient by central differences; here it is exact: the
gradient of the training loss's derivative along that of the alignment in the cells' gradients.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dnas.schedules import as_schedule
from dnas.space import Mix

Params = Any
Metrics = dict[str, jax.Array]

# (loss of params and mix, params, mix, step, mean over replicas) -> (what to add to the gradient of
# the weights, metrics)
WeightPenalty = Callable[
    [Callable[[Params, Mix], jax.Array], Params, Mix, jax.Array, Callable[[Any], Any]],
    tuple[Params, Metrics],
]


def alignment(gradients: Mix, parts: Mapping[str, str] | None = None) -> jax.Array:
    """The mean cosine between the gradients of any two cells (Movahedi et al., 2023).

    Args:
      gradients: of the loss, in each cell's own copy ``[cells, rows, options]`` of the tables.
      parts: for each table, the part of the genotype that it decides. The tables of one part are
        one vector in each cell. By default each table is a part of its own.

    Returns:
      A scalar from -1 to 1: the mean over the pairs of each part's cells, and over the parts.
    """
    means = []
    part_of = (lambda name: name) if parts is None else parts.__getitem__
    for _, names in itertools.groupby(sorted(gradients, key=part_of), part_of):
        vectors = jnp.concatenate([_rows(gradients[name]) for name in names], -1)
        squares = jnp.square(vectors).sum(-1, keepdims=True)
        # No direction at all agrees with none; the inner `where` keeps derivatives finite.
        units = jnp.where(
            squares > 0, vectors / jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0
        )
        cells = len(vectors)
        pairs = jnp.triu(units @ units.T, 1)
        means.append(pairs.sum() * 2 / (cells * (cells - 1)))
    return jnp.stack(means).mean()


def align_weights(
    weight: optax.ScalarOrSchedule,
    layers: Mapping[str, int],
    parts: Mapping[str, str] | None = None,
) -> WeightPenalty:
    """The regulariser of Lambda-DARTS, ``-weight * alignment``, as a gradient of the weights.

    The alignment is that of the training loss, in the mixing weights. It costs one gradient in the
    mix and one directional derivative's gradient in the weights: about three plain gradients.

    Args:
      weight: a number, or a schedule of the search's step; published as rising linearly from
        0 to 0.125 over the epochs, by the programs' defaults, or to 0.25, by their scripts.
      layers: number of cells for each table of decisions; tables of a single cell are left out.
        The published program aligns the normal cells only.
      parts: for each table, the part of the genotype that it decides; see `alignment`.

    Returns:
      ``(loss, params, mix, step, mean) -> (gradient, {'alignment': ...})``, where ``loss(params,
      mix)`` is the training loss, for a mix of which any table may be ``[cells, rows, options]``.

    Raises:
      ValueError: no table has two cells, or the weight is negative.
    """
    schedule = as_schedule("weight", weight)
    shared = {name: cells for name, cells in layers.items() if cells > 1}
    if not shared:
        raise ValueError(
            f"layers={dict(layers)!r}: alignment needs a table that two cells of the supernet share"
        )

    def penalty(loss, params, mix, step, mean):
        copies = {
            name: jnp.broadcast_to(mix[name], (cells, *mix[name].shape))
            for name, cells in shared.items()
        }

        gradients = mean(jax.grad(lambda c: loss(params, mix | c))(copies))
        value, direction = jax.value_and_grad(lambda g: alignment(g, parts))(gradients)

        # By the chain rule, d(alignment)/dparams = d(direction . dloss/dcopies)/dparams.
        def derivative(params):
            return jax.jvp(lambda c: loss(params, mix | c), (copies,), (direction,))[1]

        gradient = mean(jax.grad(derivative)(params))
        return optax.tree.scale(-schedule(step), gradient), {"alignment": value}

    return penalty


def _rows(table: jax.Array) -> jax.Array:
    return table.reshape(len(table), -1)
