"""Relaxations: from alphas to the mixing weights of a supernet.

Options are the last axis of a table; all axes before it, whatever their number, are rows.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dnas import checks
from dnas.gradient import sparse
from dnas.schedules import as_schedule
from dnas.space import Alphas, Decision, Mix, initial_alphas

_LEAST_LOG = -80.0  # of a concentration: samples and their gradients are finite in float32


def softmax_tables(alphas: Alphas, step: jax.Array | int = 0) -> Mix:
    """The softmax over the options of every row, at every step."""
    del step
    return {name: jax.nn.softmax(table, -1) for name, table in alphas.items()}


class Relaxation(NamedTuple):
    """A way to relax a choice.

    Attributes:
      sample: ``(key, alphas, step) -> mix``, used in training; `step` is a traced integer, so
        that schedules cost no compilation.
      expected: ``(alphas, step) -> mix`` without noise, used to discretize, to report and to plot.
        What the schedules of `sample` do to the mix itself, it does too, so that what is shown was
        trained with.
    """

    sample: Callable[[jax.Array, Alphas, jax.Array], Mix]
    expected: Callable[[Alphas, jax.Array], Mix] = softmax_tables


def check(relaxation: Relaxation, decisions: Mapping[str, Decision]) -> None:
    """Raises ValueError unless mixes without noise are of the shapes of alphas; only traces."""
    alphas = jax.eval_shape(lambda key: initial_alphas(decisions, key), jax.random.key(0))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    try:
        mix = jax.eval_shape(relaxation.expected, alphas, step)
    except TypeError as error:
        raise ValueError(
            f"relaxation.expected cannot be called with (alphas, step): {error}"
        ) from error
    found, wanted = (
        {name: table.shape for name, table in tables.items()} for tables in (mix, alphas)
    )
    if found != wanted:
        raise ValueError(
            f"relaxation.expected makes tables of the shapes {found}; expected those of alphas,"
            f" {wanted}"
        )


def softmax() -> Relaxation:
    """The softmax of DARTS (Liu et al., 2019, equation 2)."""
    return _deterministic(jax.nn.softmax)


def sigmoid() -> Relaxation:
    """A sigmoid for every option by itself, as in FairDARTS (Chu et al., 2020).

    Options do not compete: rows sum to anything from 0 to the number of options.
    """
    return _deterministic(jax.nn.sigmoid)


def sparsemax() -> Relaxation:
    """The sparsemax, which gives weak options no weight at all (Martins and Astudillo, 2016)."""
    return _deterministic(sparse.sparsemax)


def entmax15() -> Relaxation:
    """The 1.5-entmax, a smoother way to exact zeros (Peters, Niculae and Martins, 2019)."""
    return _deterministic(sparse.entmax15)


def gumbel_softmax(temperature: optax.ScalarOrSchedule = 1.0, hard: bool = True) -> Relaxation:
    """Samples from the Gumbel-softmax distribution (Jang et al., 2017; Maddison et al., 2017).

    ``softmax((log_softmax(alphas) + gumbel) / temperature)`` in every row, as in SNAS (Xie et al.,
    2019). With `hard` the forward pass takes the one-hot argmax and the backward pass the gradient
    of the soft sample (straight-through), as in GDAS (Dong and Yang, 2019).

    The expected mix is the softmax of alphas at every temperature, the distribution's parameter:
    an option is the largest of a sample with that probability (Maddison et al., 2017, proposition
    1), and so is the mean of hard samples. The temperature anneals the noise only.

    Args:
      temperature: a positive number, or a schedule of the search's step.
      hard: whether mixing weights are one-hot.
    """
    schedule = as_schedule("temperature", temperature, checks.positive)

    def draw(key: jax.Array, table: jax.Array, step: jax.Array) -> jax.Array:
        noise = jax.random.gumbel(key, table.shape, table.dtype)
        soft = jax.nn.softmax((jax.nn.log_softmax(table) + noise) / schedule(step))
        return straight_through(_one_hot(soft.argmax(-1), table), soft) if hard else soft

    return _random(draw)


def reinmax(temperature: optax.ScalarOrSchedule = 1.0) -> Relaxation:
    """One-hot samples of the softmax with gradients of second order (Liu et al., 2023).

    Straight-through gradients, as those of a hard `gumbel_softmax`, approximate the gradient of
    the expected loss to first order. ReinMax (algorithm 2 of "Bridging discrete and
    backpropagation: straight-through and beyond") does it to second order by Heun's method: at
    temperature 1 it is unbiased for losses that are quadratic in the mix.

    Samples are those of the softmax at every temperature, which changes gradients only: the
    expected mix is the softmax.

    Args:
      temperature: of the softmax that the sample is averaged with; a positive number, or a
        schedule of the search's step. Above 1 gradients vary less, at some bias.
    """
    schedule = as_schedule("temperature", temperature, checks.positive)

    def draw(key: jax.Array, table: jax.Array, step: jax.Array) -> jax.Array:
        one_hot = _one_hot(jax.random.categorical(key, table), table)
        middle = (one_hot + jax.nn.softmax(table / schedule(step))) / 2
        # The softmax that has the value `middle`, with the derivative of a softmax in alphas.
        middle = jax.nn.softmax(straight_through(jnp.log(middle), table))
        return straight_through(one_hot, 2 * middle - jax.nn.softmax(table) / 2)

    return _random(draw)


def dirichlet() -> Relaxation:
    """Samples from a Dirichlet distribution in every row, as in DrNAS (Chen et al., 2021).

    Alphas determine the `concentration`. Gradients are reparameterised implicitly (Figurnov et
    al., 2018). The expected mix is the distribution's mean.
    """

    def draw(key: jax.Array, table: jax.Array, step: jax.Array) -> jax.Array:
        del step
        return jax.random.dirichlet(key, concentration(table), dtype=table.dtype)

    def mean(table: jax.Array) -> jax.Array:
        positive = concentration(table)
        return positive / positive.sum(-1, keepdims=True)

    return _random(draw, _in_every_table(mean))


def concentration(table: jax.Array) -> jax.Array:
    """The Dirichlet concentrations ``elu(alphas) + 1`` of DrNAS (Chen et al., 2021)."""
    # Written so that it stays above zero where elu rounds to minus one.
    positive = table > 0
    below = jnp.where(positive, 0, jnp.maximum(table, _LEAST_LOG))
    return jnp.where(positive, table + 1, jnp.exp(below))


def uniform_sample() -> Relaxation:
    """One option of every row, drawn uniformly: random weight sharing (Li and Talwalkar, 2019).

    Alphas are ignored and get no gradient; the expected mix is their softmax all the same.
    """

    def draw(key: jax.Array, table: jax.Array, step: jax.Array) -> jax.Array:
        del step
        return _one_hot(jax.random.randint(key, table.shape[:-1], 0, table.shape[-1]), table)

    return _random(draw)


def straight_through(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """`value` in the forward pass, exactly; the gradient of `surrogate` in the backward pass."""
    return lax.stop_gradient(value) + (surrogate - lax.stop_gradient(surrogate))


def table_keys(key: jax.Array, tables: Alphas) -> dict[str, jax.Array]:
    """A PRNG key for each table, whatever order they are in."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(sorted(tables))}


def _one_hot(options: jax.Array, like: jax.Array) -> jax.Array:
    return jax.nn.one_hot(options, like.shape[-1], dtype=like.dtype)


def _in_every_table(
    function: Callable[[jax.Array], jax.Array],
) -> Callable[[Alphas, jax.Array], Mix]:
    return lambda alphas, step: {name: function(table) for name, table in alphas.items()}


def _deterministic(function: Callable[[jax.Array], jax.Array]) -> Relaxation:
    expected = _in_every_table(function)
    return Relaxation(lambda key, alphas, step: expected(alphas, step), expected)


def _random(
    draw: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    expected: Callable[[Alphas, jax.Array], Mix] = softmax_tables,
) -> Relaxation:
    """The relaxation that draws each table by ``(key, table, step) -> mix``."""

    def sample(key: jax.Array, alphas: Alphas, step: jax.Array) -> Mix:
        keys = table_keys(key, alphas)
        return {name: draw(keys[name], table, step) for name, table in alphas.items()}

    return Relaxation(sample, expected)
