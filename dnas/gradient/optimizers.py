"""The weight optimizers that searches and trainings share."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax


def sgd(
    learning_rate: float,
    final_learning_rate: float,
    steps: int,
    *,
    momentum: float,
    weight_decay: float,
    clip_norm: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent in PyTorch's order: clip, decay, momentum, learning rate.

    Args:
      learning_rate: at the first step.
      final_learning_rate: after the last step of a cosine; published code advances its cosine
        once an epoch, this one at every step.
      steps: length of the cosine.
      momentum: 0 for none.
      weight_decay: of all parameters, those of normalisations too.
      clip_norm: the gradient is scaled down to this norm; 0 for no clipping.
      nesterov: whether the momentum looks ahead.
    """
    schedule = optax.cosine_decay_schedule(
        learning_rate, max(steps, 1), final_learning_rate / learning_rate
    )
    return optax.chain(
        clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(weight_decay),
        optax.sgd(schedule, momentum or None, nesterov=nesterov),
    )


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """As `optax.clip_by_global_norm`, with the sums over arrays of one size in one.

    XLA:CPU makes a library call of every sum. A DARTS supernet has 325 arrays of 33 sizes, and
    so many calls take seconds to load from the compilation cache.

    Args:
      max_norm: updates are scaled down to this norm where theirs is larger.
    """

    def update(updates, state, params=None):
        del params
        sizes: dict[int, list[jax.Array]] = {}
        for x in jax.tree.leaves(updates):
            sizes.setdefault(x.size, []).append(x.ravel())
        norm = jnp.sqrt(sum(jnp.square(jnp.stack(group)).sum() for group in sizes.values()))
        clipped = jax.tree.map(
            lambda x: jnp.where(norm < max_norm, x, x / norm.astype(x.dtype) * max_norm), updates
        )
        return clipped, state

    return optax.GradientTransformation(optax.init_empty_state, update)


_NEVER = 2**31 - 1


class Averaged(NamedTuple):
    """The state of `averaged`.

    Attributes:
      inner: of the optimizer.
      average: of the weights since `begin_averaging`; before it, the weights.
      step: number of steps taken, int32.
      start: number of steps before the first that counts, int32.
    """

    inner: optax.OptState
    average: Any
    step: jax.Array
    start: jax.Array


def averaged(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that also averages the weights of its steps (Polyak and Juditsky, 1992).

    Around `sgd` it is the ASGD of Merity et al. (2018), as PyTorch counts. The weights move as by
    the optimizer alone; `Averaged.average` is what to test with.

    Args:
      optimizer: what moves the weights.
    """

    def init(params):
        average = jax.tree.map(jnp.array, params)
        return Averaged(optimizer.init(params), average, jnp.int32(0), jnp.int32(_NEVER))

    def update(updates, state, params=None):
        assert params is not None, "averages are of the weights: call update with params"
        updates, inner = optimizer.update(updates, state.inner, params)
        step = state.step + 1
        share = 1.0 / jnp.maximum(step - state.start, 1)
        new = optax.apply_updates(cast(Any, params), updates)
        average = jax.tree.map(lambda a, p: a + share.astype(p.dtype) * (p - a), state.average, new)
        return updates, Averaged(inner, average, step, state.start)

    return optax.GradientTransformation(init, update)


def begin_averaging(state: Averaged, losses: Sequence[float], patience: int) -> Averaged:
    """Begins to average once a loss stops falling (Merity et al., 2018, algorithm 1).

    Args:
      state: of the optimizer.
      losses: validation losses so far, the newest last.
      patience: the newest must be above the least of those but for the last so many before it.

    Returns:
      The state in which steps count from here on; the same where they do already, or not yet.
    """
    before = losses[:-1]
    if int(state.start) < _NEVER or len(before) <= patience:
        return state
    if losses[-1] <= min(before[: len(before) - patience]):
        return state
    return state._replace(start=jnp.array(state.step))
