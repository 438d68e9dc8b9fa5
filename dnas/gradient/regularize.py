"""Regularizers of alphas: terms that are added to the validation loss.

A regularizer is a function ``(alphas, mix, step) -> (term, metrics)``: the mix is what the
relaxation made of alphas in this step, the step is traced, and the metrics hold the value without
its weight. A search adds up as many as it likes. Weights are numbers or schedules of the step.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import digamma, gammaln, logsumexp
from numpy.typing import ArrayLike

from dnas import checks
from dnas.gradient.relax import concentration
from dnas.schedules import as_schedule
from dnas.space import Alphas, Mix

Regularizer = Callable[[Alphas, Mix, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def beta_decay(weight: optax.ScalarOrSchedule) -> Regularizer:
    """The beta decay of Beta-DARTS (Ye et al., 2022): the mean over rows of ``logsumexp(alphas)``.

    Its gradient in a row of alphas is their softmax, over the number of rows: what is strong is
    decayed most, and the mix changes slowly.

    Args:
      weight: of the term. The published weight grows linearly with the epoch from 0;
        ``optax.linear_schedule(0, 50, steps)`` in 100 epochs of NAS-Bench-201.
    """
    return _weighted("beta_decay", weight, lambda alphas, mix: _mean(_rows(logsumexp, alphas)))


def zero_one(weight: optax.ScalarOrSchedule = 10.0) -> Regularizer:
    """The zero-one loss of FairDARTS (Chu et al., 2020): ``-mean((sigmoid(alphas) - 0.5)**2)``.

    Drives the weights of a `dnas.gradient.relax.sigmoid` to zero or one.

    Args:
      weight: of the term; published as 10.
    """

    def value(alphas: Alphas, mix: Mix) -> jax.Array:
        return -_mean([jnp.square(jax.nn.sigmoid(table) - 0.5) for table in alphas.values()])

    return _weighted("zero_one", weight, value)


def entropy(weight: optax.ScalarOrSchedule) -> Regularizer:
    """The mean over rows of the mix's entropy (Tian et al., 2020, discretization-aware search).

    Drives rows to a decision. Rows that do not sum to one are scaled to it; options without any
    weight count, and get, nothing.

    Args:
      weight: of the term. A schedule may begin below zero, to keep rows undecided at first.
    """

    def row_entropy(row: jax.Array, axis: int) -> jax.Array:
        p = row / row.sum(axis, keepdims=True)
        return -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(axis)

    return _weighted("entropy", weight, lambda alphas, mix: _mean(_rows(row_entropy, mix)))


def l2(weight: optax.ScalarOrSchedule) -> Regularizer:
    """Half the squared norm of alphas, whose gradient are alphas.

    Args:
      weight: of the term.
    """

    def value(alphas: Alphas, mix: Mix) -> jax.Array:
        return _sum([jnp.square(table) for table in alphas.values()]) / 2

    return _weighted("l2", weight, value)


def kl_anchor(weight: optax.ScalarOrSchedule = 1e-3, anchor: float = 1.0) -> Regularizer:
    """DrNAS' divergence from a symmetric Dirichlet distribution (Chen et al., 2021).

    The sum over rows of ``KL(Dirichlet(elu(alphas) + 1) || Dirichlet(anchor))``; it balances
    exploration, and keeps concentrations from growing without bound. In the authors' program it is
    an option; by default alphas decay there, which draws concentrations to one as well.

    Args:
      weight: of the term; the authors' program has 0.001, which it recommends to tune.
      anchor: concentration of every option; published as 1, the uniform distribution.
    """
    checks.positive("anchor", anchor)

    def divergence(row: jax.Array, axis: int) -> jax.Array:
        c = concentration(row)
        count, total = row.shape[axis], c.sum(axis)
        inner = (c - anchor) * (digamma(c) - digamma(total)[..., None]) - gammaln(c)
        constant = count * gammaln(jnp.asarray(anchor, c.dtype)) - gammaln(count * anchor)
        return gammaln(total) + inner.sum(axis) + constant

    def value(alphas: Alphas, mix: Mix) -> jax.Array:
        return _sum(_rows(divergence, alphas))

    return _weighted("kl_anchor", weight, value)


def expected_cost(
    costs: Mapping[str, ArrayLike], weight: optax.ScalarOrSchedule, name: str = "cost"
) -> Regularizer:
    """The cost of the mix, as a fraction of the dearest options'.

    ``sum(mix * costs)`` over ``sum(max(costs))``, the maxima being those of rows: with a mix
    whose rows sum to one, the expected cost of a cell that keeps all of its edges.

    Args:
      costs: ``[rows, options]`` for some or all tables, such as `dnas.costs.parameters` and
        `dnas.costs.multiply_adds` compute; other tables cost nothing.
      weight: of the term.
      name: of the metric.

    Raises:
      ValueError: no option costs anything; later, if a mix has no table of that name and shape.
    """
    tables = {table: np.asarray(values, np.float32) for table, values in costs.items()}
    largest = float(sum(values.max(-1).sum() for values in tables.values()))
    if not largest > 0:
        raise ValueError(f"the largest cost is {largest}: expected options that cost something")

    def value(alphas: Alphas, mix: Mix) -> jax.Array:
        for table, values in tables.items():
            found = mix[table].shape if table in mix else None
            if found != values.shape:
                raise ValueError(
                    f"costs of table {table!r} have the shape {values.shape}, the mix has {found}"
                    f" in tables {sorted(mix)}; compute the costs for the space that is searched"
                )
        return _sum([mix[table] * values for table, values in tables.items()]) / largest

    return _weighted(name, weight, value)


def _weighted(
    name: str, weight: optax.ScalarOrSchedule, value: Callable[[Alphas, Mix], jax.Array]
) -> Regularizer:
    schedule = as_schedule("weight", weight)

    def regularize(alphas: Alphas, mix: Mix, step: jax.Array):
        unweighted = value(alphas, mix)
        return schedule(step) * unweighted, {name: unweighted}

    return regularize


def _rows(function: Callable, tables: Alphas) -> list[jax.Array]:
    """What a function that reduces the axis of options makes of each table."""
    return [function(table, axis=-1) for table in tables.values()]


def _mean(values: list[jax.Array]) -> jax.Array:
    """The mean over all entries of all arrays."""
    return _sum(values) / sum(value.size for value in values)


def _sum(values: list[jax.Array]) -> jax.Array:
    """The sum of all entries of all arrays."""
    return jnp.asarray(sum(value.sum() for value in values))
