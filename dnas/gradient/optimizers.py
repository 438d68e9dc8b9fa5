"""The weight optimizer that searches and trainings share."""

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
