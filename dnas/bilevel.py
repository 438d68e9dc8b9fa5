"""The bilevel search: weights on one half of the training images, alphas on the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from dnas.hypergrad import Hypergradient, Problem
from dnas.relax import Relaxation
from dnas.space import Alphas, Mix, SearchSpace, Task, initial_alphas

Batch = dict[str, jax.Array]  # 'image': uint8 [batch, height, width, channels]; 'label': [batch]


class SearchState(NamedTuple):
    """All that a search is, between two steps.

    Attributes:
      params: weights of the supernet.
      alphas: architecture parameters, one table ``[rows, options]`` for each decision.
      weight_opt: state of the weight optimizer.
      alpha_opt: state of the optimizer of alphas.
      key: the run's PRNG key; it never changes, steps fold their number into it.
      step: number of steps taken.
    """

    params: Any
    alphas: Alphas
    weight_opt: optax.OptState
    alpha_opt: optax.OptState
    key: jax.Array
    step: jax.Array


class Search(NamedTuple):
    """A search as pure functions.

    Attributes:
      init: ``key -> state``.
      step: ``(state, train_batch, valid_batch) -> (state, metrics)``; metrics are float32
        scalars, averaged over replicas.
      mix: ``alphas -> mix`` without noise.
    """

    init: Callable[[jax.Array], SearchState]
    step: Callable[[SearchState, Batch, Batch], tuple[SearchState, dict[str, jax.Array]]]
    mix: Callable[[Alphas], Mix]


def bilevel(
    space: SearchSpace,
    task: Task,
    *,
    relaxation: Relaxation,
    hypergradient: Hypergradient,
    weight_optimizer: optax.GradientTransformation,
    alpha_optimizer: optax.GradientTransformation,
    preprocess: Callable[[jax.Array, jax.Array], jax.Array],
    axis_name: str | None = None,
) -> Search:
    """Assembles a differentiable search (Liu et al., 2019, algorithm 1).

    A step first moves alphas along the hypergradient of the validation loss, then weights
    along the gradient of the training loss at the new alphas.

    Args:
      space: the search space.
      task: what the supernet is built for.
      relaxation: turns alphas into mixing weights.
      hypergradient: estimates the gradient in alphas.
      weight_optimizer: optimizer of the weights.
      alpha_optimizer: optimizer of alphas, with their own weight decay.
      preprocess: ``(key, uint8 images) -> float images``: augmentation and normalisation.
      axis_name: name of the axis of replicas when the step runs on several devices. Gradients
        are averaged over it; batch statistics stay each replica's own, and all replicas see
        the same sample of the relaxation.

    Returns:
      The search.
    """
    abstract = nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0)))
    graph, _, others = nnx.split(abstract, nnx.Param, ...)
    if jax.tree.leaves(others):
        names = sorted({type(v).__name__ for _, v in nnx.to_flat_state(others)})
        raise ValueError(
            f"the supernet of {space.name!r} holds state beside its weights ({', '.join(names)}); "
            "operations must take randomness from `key` and batch normalisation from `norm`"
        )

    def mean(tree):
        return tree if axis_name is None else lax.pmean(tree, axis_name)

    def init(key: jax.Array) -> SearchState:
        net_key, alpha_key, run_key = jax.random.split(key, 3)
        supernet = space.supernet(task, rngs=nnx.Rngs(net_key))
        params = nnx.to_pure_dict(nnx.state(supernet, nnx.Param))
        alphas = initial_alphas(space.decisions, alpha_key)
        return SearchState(
            params=params,
            alphas=alphas,
            weight_opt=weight_optimizer.init(params),
            alpha_opt=alpha_optimizer.init(alphas),
            key=run_key,
            step=jnp.zeros((), jnp.int32),
        )

    def losses(images: jax.Array, labels: jax.Array, key: jax.Array, step: jax.Array):
        """The loss ``(params, alphas) -> (loss, (loss, accuracy))`` of one batch."""
        mix_key, network_key = jax.random.split(key)
        if axis_name is not None:
            network_key = jax.random.fold_in(network_key, lax.axis_index(axis_name))

        def loss(params, alphas):
            mix = relaxation.sample(mix_key, alphas, step)
            chex.assert_trees_all_equal_shapes_and_dtypes(mix, alphas)  # a user's may err
            logits = merge(graph, params)(images, mix, key=network_key)
            error = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            accuracy = (logits.argmax(-1) == labels).mean(dtype=jnp.float32)
            return error, (error, accuracy)

        return loss

    def step(state: SearchState, train_batch: Batch, valid_batch: Batch):
        train_key, valid_key, *mix_keys = jax.random.split(
            jax.random.fold_in(state.key, state.step), 4
        )
        if axis_name is not None:
            # Replicas augment differently, but sample the same architecture.
            replica = lax.axis_index(axis_name)
            train_key = jax.random.fold_in(train_key, replica)
            valid_key = jax.random.fold_in(valid_key, replica)
        train_images = preprocess(train_key, train_batch["image"])
        valid_images = preprocess(valid_key, valid_batch["image"])
        train_loss = losses(train_images, train_batch["label"], mix_keys[0], state.step)
        valid_loss = losses(valid_images, valid_batch["label"], mix_keys[1], state.step)

        problem = Problem(
            lambda params, alphas: train_loss(params, alphas)[0],
            valid_loss,
            weight_optimizer,
            mean,
        )
        gradient, valid = hypergradient(problem, state.params, state.weight_opt, state.alphas)
        updates, alpha_opt = alpha_optimizer.update(gradient, state.alpha_opt, state.alphas)
        alphas = optax.apply_updates(state.alphas, updates)

        gradient, train = jax.grad(train_loss, has_aux=True)(state.params, alphas)
        updates, weight_opt = weight_optimizer.update(
            mean(gradient), state.weight_opt, state.params
        )
        params = optax.apply_updates(state.params, updates)

        values = mean((*train, *valid))
        names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
        metrics = dict(zip(names, values, strict=True))
        new = SearchState(params, alphas, weight_opt, alpha_opt, state.key, state.step + 1)
        return new, metrics

    return Search(init, step, relaxation.expected)


def merge(graph: nnx.GraphDef, params: Any) -> nnx.Module:
    """A module from its graph and the plain arrays of its parameters."""
    return nnx.merge(graph, nnx.State(params))
