"""The bilevel search: weights on one half of the training examples, alphas on the other.

`bilevel` puts a search together. The steps of the algorithm stand beside it, as functions of its
`Parts`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from dnas import arithmetic, capabilities, checks, sequences
from dnas.gradient import eigen
from dnas.gradient.alignment import WeightPenalty
from dnas.gradient.fit import check_single_path
from dnas.gradient.freeze import Freeze, Frozen
from dnas.gradient.hypergrad import Hypergradient, Problem, gradients
from dnas.gradient.parts import Losses, Parts, SearchState, losses
from dnas.gradient.perturb import Perturbation
from dnas.gradient.regularize import Regularizer
from dnas.gradient.relax import Relaxation
from dnas.gradient.skeleton import merge, skeleton
from dnas.nn.supernet.owners import owners
from dnas.space import Alphas, Mix, SearchSpace, initial_alphas
from dnas.tasks.task import Batch, Sums, Task

Metrics = dict[str, Any]  # sums of the task, 'train' and 'valid', and float32 scalars by name


class Search(NamedTuple):
    """A search as pure functions.

    Attributes:
      init: ``key -> state``.
      step: ``(state, train_batch, valid_batch) -> (state, metrics)``; metrics are the sums of the
        task over both batches and all replicas, ``'train'`` and ``'valid'``, and float32 scalars.
      mix: ``(alphas, steps) -> mix`` without noise, as it was in the last of so many steps; before
        the first, as it is there.
      eigenvalue: ``(state, train_batch, valid_batch) -> scalar``: the dominant eigenvalue of the
        validation loss's Hessian in alphas, at the mix without noise (Zela et al., 2020), in
        float32 whatever the search's arithmetic.
      frozen: ``state -> Frozen``, how many operations are frozen; None where none ever is.
    """

    init: Callable[[jax.Array], SearchState]
    step: Callable[[SearchState, Batch, Batch], tuple[SearchState, Metrics]]
    mix: Callable[[Alphas, jax.Array], Mix]
    eigenvalue: Callable[[SearchState, Batch, Batch], jax.Array]
    frozen: Callable[[SearchState], Frozen] | None = None


class Moved(NamedTuple):
    """What a move leaves.

    Attributes:
      value: alphas or weights.
      opt_state: of their optimizer.
      found: of the loss that was differentiated, ``(sums, carry)``.
      metrics: float32 scalars by name.
    """

    value: Any
    opt_state: optax.OptState
    found: tuple[Sums, Any]
    metrics: Metrics


def bilevel(
    space: SearchSpace,
    task: Task,
    *,
    relaxation: Relaxation,
    hypergradient: Hypergradient,
    weight_optimizer: optax.GradientTransformation,
    alpha_optimizer: optax.GradientTransformation,
    regularizers: Sequence[Regularizer] = (),
    weight_penalty: WeightPenalty | None = None,
    perturbation: Perturbation | None = None,
    freeze: Freeze | None = None,
    auxiliary_skip: optax.Schedule | None = None,
    skip_dropout: optax.Schedule | None = None,
    warmup_steps: int = 0,
    alpha_interval: int = 1,
    alpha_scale: float = 1e-3,
    carry: sequences.Carry = (),
    dtype: str = "float32",
    axis_name: str | None = None,
) -> Search:
    """Assembles a differentiable search (Liu et al., 2019, algorithm 1).

    A step first moves alphas along the hypergradient of the validation loss, then weights
    along the gradient of the training loss at the new alphas. What is left out of the optional
    parts costs nothing; nothing of what they do over time needs another compilation.

    Args:
      space: the search space.
      task: what the supernet is for: its loss, and how batches are prepared.
      relaxation: turns alphas into mixing weights.
      hypergradient: estimates the gradient in alphas.
      weight_optimizer: optimizer of the weights.
      alpha_optimizer: optimizer of alphas, with their own weight decay.
      regularizers: terms whose gradients are added to the hypergradient; see
        `dnas.gradient.regularize`. The weights do not feel them.
      weight_penalty: a term in the gradient of the weights; see
        `dnas.gradient.alignment.align_weights`.
      perturbation: of the mix at which the weights take their step; see `dnas.gradient.perturb`.
      freeze: ends the training of single operations; see `dnas.gradient.freeze`. It costs the
        gradient of the validation loss in the weights.
      auxiliary_skip: weight of the supernet's auxiliary skip connections, by step; needs a space
        with them, see `dnas.space.Mixing`.
      skip_dropout: probability that an element behind a skip connection is dropped, by step.
      warmup_steps: alphas and their optimizer stay as they are in steps before this one.
      alpha_interval: alphas move in the last of every so many steps, the weights in all of them.
      alpha_scale: standard deviation of the initial alphas.
      carry: what supernets of a space with a carry begin a sequence with, arrays ``[batch, ...]``.
      dtype: arithmetic of the supernet, one of `dnas.arithmetic.DTYPES`.
      axis_name: name of the axis of replicas when the step runs on several devices. Gradients
        are averaged over it; batch statistics stay each replica's own, and all replicas see
        the same sample of the relaxation.

    Returns:
      The search.

    Raises:
      ValueError: the supernet holds state beside its weights, or computes single paths where the
        relaxation mixes or a perturbation does; `alpha_interval` is not a whole number from 1; or
        there is no such `dtype`.
    """
    settings = dict(locals())  # the arguments, by the names that they have in `Parts`
    checks.whole("alpha_interval", alpha_interval)
    arithmetic.check(dtype)
    graph, _, shapes = skeleton(space, task)
    candidates = {} if freeze is None else owners(merge(graph, shapes))
    mixing = capabilities.mixing_of(space)
    if mixing is not None and mixing.single_path:
        check_single_path(space, relaxation, perturbation)
    parts = Parts(graph=graph, candidates=candidates, **settings)
    full = parts if dtype == "float32" else dataclasses.replace(parts, dtype="float32")
    return Search(
        functools.partial(init, parts),
        functools.partial(arithmetic.within(dtype)(step), parts),
        functools.partial(expected, parts),
        functools.partial(arithmetic.within("float32")(eigenvalue), full),
        None if freeze is None else lambda state: freeze.frozen(state.extra),
    )


def init(parts: Parts, key: jax.Array) -> SearchState:
    """The first state: initial weights and alphas, fresh optimizers."""
    net_key, alpha_key, run_key = jax.random.split(key, 3)
    supernet = parts.space.supernet(parts.task, rngs=nnx.Rngs(net_key))
    params = nnx.to_pure_dict(nnx.state(supernet, nnx.Param))
    alphas = initial_alphas(parts.space.decisions, alpha_key, parts.alpha_scale)
    freeze, carry = parts.freeze, parts.carry
    return SearchState(
        params=params,
        alphas=alphas,
        weight_opt=parts.weight_optimizer.init(params),
        alpha_opt=parts.alpha_optimizer.init(alphas),
        key=run_key,
        step=jnp.zeros((), jnp.int32),
        extra=() if freeze is None else freeze.init(params, parts.candidates),
        carry={"train": carry, "valid": carry} if jax.tree.leaves(carry) else (),
    )


def step(
    parts: Parts, state: SearchState, train_batch: Batch, valid_batch: Batch
) -> tuple[SearchState, Metrics]:
    """One step of the search (Liu et al., 2019, algorithm 1): alphas first, then weights."""
    train, valid, key = losses(parts, state, train_batch, valid_batch)
    alphas = move_alphas(parts, state, train, valid)
    weights, extra = move_weights(parts, state, alphas.value, train, valid, key)
    (train_sums, train_carry), (valid_sums, valid_carry) = weights.found, alphas.found
    sums = parts.total({"train": train_sums, "valid": valid_sums})
    new = state._replace(
        params=weights.value,
        alphas=alphas.value,
        weight_opt=weights.opt_state,
        alpha_opt=alphas.opt_state,
        step=state.step + 1,
        extra=extra,
        carry={"train": train_carry, "valid": valid_carry} if state.carry else (),
    )
    return new, {**sums, **alphas.metrics, **weights.metrics}


def regularization(
    parts: Parts, state: SearchState, sample: Callable[[Alphas], Mix]
) -> tuple[Alphas, Metrics]:
    """The gradient of the regularizers in alphas, and their metrics."""

    def penalty(alphas):
        terms = [term(alphas, sample(alphas), state.step) for term in parts.regularizers]
        metrics = {name: value for _, found in terms for name, value in found.items()}
        return sum(term for term, _ in terms), metrics

    return jax.grad(penalty, has_aux=True)(state.alphas)


def move_alphas(parts: Parts, state: SearchState, train: Losses, valid: Losses) -> Moved:
    """Moves alphas along the hypergradient, unless the step is one in which they wait."""
    regularized = bool(parts.regularizers)
    terms, metrics = regularization(parts, state, valid.sample) if regularized else (None, {})
    problem = Problem(
        lambda params, alphas: train.of_alphas(params, alphas)[0],
        valid.of_alphas,
        parts.weight_optimizer,
        parts.mean,
        state.step,
    )

    def move():
        gradient, found = parts.hypergradient(problem, state.params, state.weight_opt, state.alphas)
        if regularized:  # they do not depend on the weights: it is a sum for every estimate
            gradient = optax.tree.add(gradient, terms)
        updates, alpha_opt = parts.alpha_optimizer.update(gradient, state.alpha_opt, state.alphas)
        return optax.apply_updates(state.alphas, updates), alpha_opt, found

    def wait():
        return state.alphas, state.alpha_opt, valid.of_alphas(state.params, state.alphas)[1]

    if not parts.warmup_steps and parts.alpha_interval == 1:
        alphas, opt, found = move()
        return Moved(alphas, opt, found, metrics)
    early = state.step < parts.warmup_steps
    between = (state.step + 1) % parts.alpha_interval != 0
    alphas, opt, found = lax.cond(early | between, wait, move)
    return Moved(alphas, opt, found, metrics)


def move_weights(
    parts: Parts,
    state: SearchState,
    alphas: Alphas,
    train: Losses,
    valid: Losses,
    key: jax.Array,
) -> tuple[Moved, Any]:
    """Moves the weights along the gradient of the training loss at the new alphas.

    Args:
      parts: of the search.
      state: before the step.
      alphas: after their move.
      train: losses of the training batch.
      valid: losses of the validation batch, by which `Freeze` decides.
      key: of the perturbation.

    Returns:
      The move, and what `Freeze` remembers.
    """
    # The mix at which the weights train: a sample, perhaps perturbed.
    mix = train.sample(alphas)
    if parts.perturbation is not None:
        loss = lambda mix: train.of_mix(state.params, mix)[0]  # noqa: E731
        mix = parts.perturbation(key, loss, mix, state.step, parts.mean)
    (gradient, _), found = gradients(train.of_mix, has_aux=True)(state.params, mix)
    gradient, metrics = parts.mean(gradient), {}
    if parts.weight_penalty is not None:
        term, metrics = parts.weight_penalty(
            lambda params, mix: train.of_mix(params, mix)[0],
            *(state.params, mix, state.step, parts.mean),
        )
        gradient = optax.tree.add(gradient, term)
    # Frozen operations: neither in the norm that is clipped, nor moved by momentum and decay.
    mask, extra = None, state.extra
    if parts.freeze is not None:
        both, _ = gradients(valid.of_alphas, has_aux=True)(state.params, alphas)
        disagreeing = parts.mean(both[0])
        mask, extra = parts.freeze.update(gradient, disagreeing, extra, parts.candidates)
        gradient = jax.tree.map(jnp.multiply, gradient, mask)
    updates, weight_opt = parts.weight_optimizer.update(gradient, state.weight_opt, state.params)
    if mask is not None:
        updates = jax.tree.map(jnp.multiply, updates, mask)
    params = optax.apply_updates(state.params, updates)
    return Moved(params, weight_opt, found, metrics), extra


def expected(parts: Parts, alphas: Alphas, steps: jax.Array) -> Mix:
    """The mix without noise, as it was in the last of so many steps."""
    return parts.relaxation.expected(alphas, jnp.maximum(steps - 1, 0))


def eigenvalue(
    parts: Parts, state: SearchState, train_batch: Batch, valid_batch: Batch
) -> jax.Array:
    """The dominant eigenvalue of the validation loss's Hessian in alphas (Zela et al., 2020)."""
    _, valid, key = losses(parts, state, train_batch, valid_batch)

    def loss(alphas):
        return valid.of_mix(state.params, expected(parts, alphas, state.step))[0]

    product = eigen.hessian_vector_product(loss, state.alphas)
    return eigen.dominant_eigenvalue(lambda v: parts.mean(product(v)), state.alphas, key)
