"""Perturbations of the mix while weights train, for a flatter landscape in alphas (SDARTS).

Chen and Hsieh, "Stabilizing Differentiable Architecture Search via Perturbation-based
Regularization" (ICML 2020). A perturbation is a function ``(key, loss, mix, step) -> mix``;
`loss` is the training loss ``mix -> scalar`` at the present weights. It comes back as a constant,
and is best called outside of the function that is differentiated in the weights.

Noise and steps live in a ball in the maximum norm. As in the published code, every table is then
clipped to [0, 1] and its rows are scaled back to the sum that they had, which may leave the ball.
Unlike there, the ascent sees the statistics of its batch, as all else in a supernet does here.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dnas import checks
from dnas.gradient.relax import table_keys
from dnas.schedules import as_schedule
from dnas.space import Mix


class Perturbation(Protocol):
    """What a perturbation is."""

    def __call__(
        self,
        key: jax.Array,
        loss: Callable[[Mix], jax.Array],
        mix: Mix,
        step: jax.Array,
        mean: Callable[[Any], Any] = lambda tree: tree,
    ) -> Mix:
        """Perturbs a mix.

        Args:
          key: a PRNG key; the same on all replicas.
          loss: the training loss of a mix, of this replica.
          mix: tables ``[..., options]`` of weights from 0 to 1.
          step: the search's step, traced.
          mean: averages over replicas.
        """
        ...


def random_smoothing(radius: optax.ScalarOrSchedule) -> Perturbation:
    """Uniform noise in [-radius, radius] (SDARTS-RS).

    Args:
      radius: of the noise; a number or a schedule of the search's step.
    """
    radius_at = as_schedule("radius", radius)

    def perturb(key, loss, mix, step, mean=lambda tree: tree):
        del loss, mean
        return lax.stop_gradient(_noisy(key, mix, radius_at(step)))

    return perturb


def adversarial(
    radius: optax.ScalarOrSchedule,
    steps: int = 7,
    step_size: optax.ScalarOrSchedule | None = None,
) -> Perturbation:
    """The mix in the ball around it that makes the training loss largest (SDARTS-ADV).

    Found by projected ascent along the gradient's sign, from a random point of the ball. If that
    ends at a lower loss than it set out from, the mix stays what it was, as in the published code.

    Args:
      radius: of the ball; a number or a schedule of the search's step.
      steps: of the ascent; each costs a gradient of the loss. Published as 7.
      step_size: length of a step; None for the published ``2 * radius / steps``.
    """
    checks.whole("steps", steps)
    radius_at = as_schedule("radius", radius)
    length_at = None
    if step_size is not None:
        length_at = as_schedule("step_size", step_size, checks.positive)

    def perturb(key, loss, mix, step, mean=lambda tree: tree):
        mix = lax.stop_gradient(mix)
        r = radius_at(step)
        length = 2 * r / steps if length_at is None else length_at(step)

        def ascend(_, now):
            def move(table, gradient, start):
                moved = table + length * jnp.sign(gradient) - start
                return _valid(start + jnp.clip(moved, -r, r), start)

            return jax.tree.map(move, now, mean(jax.grad(loss)(now)), mix)

        found = lax.fori_loop(0, steps, ascend, _noisy(key, mix, r))
        before, after = mean((loss(mix), loss(found)))
        return lax.stop_gradient(
            jax.tree.map(lambda new, old: jnp.where(before > after, old, new), found, mix)
        )

    return perturb


def _noisy(key: jax.Array, mix: Mix, radius: jax.Array) -> Mix:
    def add(key, table):
        noise = jax.random.uniform(key, table.shape, table.dtype, -1, 1)
        return _valid(table + radius * noise, table)

    return jax.tree.map(add, table_keys(key, mix), mix)


def _valid(values: jax.Array, like: jax.Array) -> jax.Array:
    """Clips to [0, 1] and scales rows to the sums of `like`; empty rows take their best option."""
    clipped = jnp.clip(values, 0, 1)
    best = jax.nn.one_hot(values.argmax(-1), values.shape[-1], dtype=values.dtype)
    clipped = jnp.where(clipped.sum(-1, keepdims=True) > 0, clipped, best)
    return clipped * (like.sum(-1, keepdims=True) / clipped.sum(-1, keepdims=True))
