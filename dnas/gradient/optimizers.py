"""The weight optimizers that searches and trainings share."""

from typing import Any, NamedTuple

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


class Averaged(NamedTuple):
    """The state of `averaged`.

    Attributes:
      inner: of the optimizer.
      average: of the weights; before averaging starts, the weights.
      step: number of steps taken, int32.
    """

    inner: optax.OptState
    average: Any
    step: jax.Array


def averaged(optimizer: optax.GradientTransformation, start: int) -> optax.GradientTransformation:
    """An optimizer that also averages the weights of its last steps (Polyak and Juditsky, 1992).

    Around `sgd` with a constant learning rate it is the ASGD of Merity et al. (2018), as PyTorch
    counts: the average is of the weights after every step from `start` + 1 on. The steps are those
    of the optimizer alone; `Averaged.average` is what to test with.

    Args:
      optimizer: what moves the weights.
      start: number of steps before the first that counts.
    """

    def init(params):
        return Averaged(optimizer.init(params), jax.tree.map(jnp.array, params), jnp.int32(0))

    def update(updates, state, params=None):
        updates, inner = optimizer.update(updates, state.inner, params)
        step = state.step + 1
        share = 1.0 / jnp.maximum(step - start, 1)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: a + share.astype(p.dtype) * (p - a), state.average, new)
        return updates, Averaged(inner, average, step)

    return optax.GradientTransformation(init, update)
