"""Relaxations: from alphas to the mixing weights of a supernet."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from dnas import checks
from dnas.space import Alphas, Mix


def softmax_tables(alphas: Alphas) -> Mix:
    """The softmax over the options of every row."""
    return {name: jax.nn.softmax(table, -1) for name, table in alphas.items()}


class Relaxation(NamedTuple):
    """A way to relax a choice.

    Attributes:
      sample: ``(key, alphas, step) -> mix``, used in training; `step` is a traced integer, so
        that schedules cost no compilation.
      expected: ``alphas -> mix`` without noise, used to discretize, to report and to plot.
    """

    sample: Callable[[jax.Array, Alphas, jax.Array], Mix]
    expected: Callable[[Alphas], Mix] = softmax_tables


def softmax() -> Relaxation:
    """The softmax of DARTS (Liu et al., 2019, equation 2)."""
    return Relaxation(lambda key, alphas, step: softmax_tables(alphas))


def gumbel_softmax(temperature: optax.ScalarOrSchedule = 1.0, hard: bool = True) -> Relaxation:
    """Samples from the Gumbel-softmax distribution (Jang et al., 2017; Maddison et al., 2017).

    ``softmax((log_softmax(alphas) + gumbel) / temperature)`` in every row, as in SNAS (Xie et al.,
    2019). With `hard` the forward pass takes the one-hot argmax and the backward pass the gradient
    of the soft sample (straight-through), as in GDAS (Dong and Yang, 2019).

    Args:
      temperature: a positive number, or a schedule of the search's step.
      hard: whether mixing weights are one-hot.
    """
    if not callable(temperature):
        checks.positive("temperature", temperature)
    schedule = temperature if callable(temperature) else optax.constant_schedule(temperature)

    def sample(key: jax.Array, alphas: Alphas, step: jax.Array) -> Mix:
        tau = schedule(step)
        mix = {}
        for i, (name, table) in enumerate(sorted(alphas.items())):
            noise = jax.random.gumbel(jax.random.fold_in(key, i), table.shape, table.dtype)
            soft = jax.nn.softmax((jax.nn.log_softmax(table) + noise) / tau)
            if hard:
                one_hot = jax.nn.one_hot(soft.argmax(-1), soft.shape[-1], dtype=soft.dtype)
                soft = straight_through(one_hot, soft)
            mix[name] = soft
        return mix

    return Relaxation(sample)


def straight_through(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """`value` in the forward pass, exactly; the gradient of `surrogate` in the backward pass."""
    return jax.lax.stop_gradient(value) + (surrogate - jax.lax.stop_gradient(surrogate))
