"""The bilevel search: weights on one half of the training images, alphas on the other."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from dnas import checks, sequences
from dnas.gradient import eigen
from dnas.gradient.alignment import WeightPenalty
from dnas.gradient.freeze import Freeze, Frozen
from dnas.gradient.hypergrad import Hypergradient, Problem, gradients
from dnas.gradient.perturb import Perturbation
from dnas.gradient.regularize import Regularizer
from dnas.gradient.relax import Relaxation
from dnas.nn.supernet.owners import owners
from dnas.space import Alphas, Mix, SearchSpace, initial_alphas
from dnas.tasks.task import Batch, Sums, Task

Metrics = dict[str, Any]  # sums of the task, 'train' and 'valid', and float32 scalars by name


class SearchState(NamedTuple):
    """All that a search is, between two steps.

    Attributes:
      params: weights of the supernet.
      alphas: architecture parameters, one table ``[rows, options]`` for each decision.
      weight_opt: state of the weight optimizer.
      alpha_opt: state of the optimizer of alphas.
      key: the run's PRNG key; it never changes, steps fold their number into it.
      step: number of steps taken.
      extra: what `Freeze` remembers; ``()`` where nothing is frozen.
      carry: what supernets carry from batch to batch, by ``'train'`` and ``'valid'``; ``()`` where
        they carry nothing. See `dnas.sequences`.
    """

    params: Any
    alphas: Alphas
    weight_opt: optax.OptState
    alpha_opt: optax.OptState
    key: jax.Array
    step: jax.Array
    extra: Any = ()
    carry: Any = ()


class Search(NamedTuple):
    """A search as pure functions.

    Attributes:
      init: ``key -> state``.
      step: ``(state, train_batch, valid_batch) -> (state, metrics)``; metrics are the sums of the
        task over both batches and all replicas, ``'train'`` and ``'valid'``, and float32 scalars.
      mix: ``(alphas, steps) -> mix`` without noise, as it was in the last of so many steps; before
        the first, as it is there.
      eigenvalue: ``(state, train_batch, valid_batch) -> scalar``: the dominant eigenvalue of the
        validation loss's Hessian in alphas, at the mix without noise (Zela et al., 2020).
      frozen: ``state -> Frozen``, how many operations are frozen; None where none ever is.
    """

    init: Callable[[jax.Array], SearchState]
    step: Callable[[SearchState, Batch, Batch], tuple[SearchState, Metrics]]
    mix: Callable[[Alphas, jax.Array], Mix]
    eigenvalue: Callable[[SearchState, Batch, Batch], jax.Array]
    frozen: Callable[[SearchState], Frozen] | None = None


class _Losses(NamedTuple):
    """The losses of one batch.

    Attributes:
      sample: ``alphas -> mix`` with the step's noise.
      of_mix: ``(params, mix) -> (loss, (sums, carry))``.
    """

    sample: Callable[[Alphas], Mix]
    of_mix: Callable[[Any, Mix], tuple[jax.Array, tuple[Sums, Any]]]

    def of_alphas(self, params: Any, alphas: Alphas):
        return self.of_mix(params, self.sample(alphas))


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
      axis_name: name of the axis of replicas when the step runs on several devices. Gradients
        are averaged over it; batch statistics stay each replica's own, and all replicas see
        the same sample of the relaxation.

    Returns:
      The search.

    Raises:
      ValueError: the supernet holds state beside its weights, or computes single paths where the
        relaxation mixes or a perturbation does; or `alpha_interval` is not a whole number from 1.
    """
    checks.whole("alpha_interval", alpha_interval)
    graph, _, shapes = skeleton(space, task)
    candidates = {} if freeze is None else owners(merge(graph, shapes))
    if getattr(getattr(space, "mixing", None), "single_path", False):
        check_single_path(space, relaxation, perturbation)

    def mean(tree):
        return tree if axis_name is None else lax.pmean(tree, axis_name)

    def total(tree):
        return tree if axis_name is None else lax.psum(tree, axis_name)

    def own(key):  # a key of this replica's own
        return key if axis_name is None else jax.random.fold_in(key, lax.axis_index(axis_name))

    def init(key: jax.Array) -> SearchState:
        net_key, alpha_key, run_key = jax.random.split(key, 3)
        supernet = space.supernet(task, rngs=nnx.Rngs(net_key))
        params = nnx.to_pure_dict(nnx.state(supernet, nnx.Param))
        alphas = initial_alphas(space.decisions, alpha_key, alpha_scale)
        return SearchState(
            params=params,
            alphas=alphas,
            weight_opt=weight_optimizer.init(params),
            alpha_opt=alpha_optimizer.init(alphas),
            key=run_key,
            step=jnp.zeros((), jnp.int32),
            extra=() if freeze is None else freeze.init(params, candidates),
            carry={"train": carry, "valid": carry} if jax.tree.leaves(carry) else (),
        )

    @jax.jit  # one function of arrays for both batches: traced, differentiated, lowered only once
    def loss_of(params, mix, inputs, before, targets, key, modifiers):
        net = merge(graph, params)
        outputs, after = sequences.read(net, inputs, before, mix, key=key, **modifiers)
        loss, sums = task.loss(outputs, targets)
        return loss, (sums, after)

    def losses(batch_key: jax.Array, batch: Batch, key: jax.Array, state, part: str) -> _Losses:
        step = state.step
        inputs, targets = task.prepare(own(batch_key), batch, True)
        before = sequences.begun(state.carry[part], carry, batch) if state.carry else ()
        mix_key, network_key = jax.random.split(key)
        schedules = {"auxiliary_skip": auxiliary_skip, "skip_dropout": skip_dropout}
        modifiers = {name: value(step) for name, value in schedules.items() if value is not None}

        def sample(alphas):
            mix = relaxation.sample(mix_key, alphas, step)
            chex.assert_trees_all_equal_shapes_and_dtypes(mix, alphas)  # a user's may err
            return mix

        def of_mix(params, mix):
            return loss_of(params, mix, inputs, before, targets, own(network_key), modifiers)

        return _Losses(sample, of_mix)

    def both_losses(state: SearchState, train_batch: Batch, valid_batch: Batch):
        train_key, valid_key, *mix_keys = jax.random.split(
            jax.random.fold_in(state.key, state.step), 4
        )
        train = losses(train_key, train_batch, mix_keys[0], state, "train")
        valid = losses(valid_key, valid_batch, mix_keys[1], state, "valid")
        return train, valid, jax.random.fold_in(mix_keys[0], 2)

    def regularization(state: SearchState, sample: Callable[[Alphas], Mix]):
        """The gradient of the regularizers, and their metrics."""

        def penalty(alphas):
            parts = [term(alphas, sample(alphas), state.step) for term in regularizers]
            metrics = {name: value for _, found in parts for name, value in found.items()}
            return sum(term for term, _ in parts), metrics

        return jax.grad(penalty, has_aux=True)(state.alphas)

    def move_alphas(state: SearchState, train: _Losses, valid: _Losses):
        terms, metrics = regularization(state, valid.sample) if regularizers else (None, {})
        problem = Problem(
            lambda params, alphas: train.of_alphas(params, alphas)[0],
            valid.of_alphas,
            weight_optimizer,
            mean,
            state.step,
        )

        def move():
            gradient, found = hypergradient(problem, state.params, state.weight_opt, state.alphas)
            if regularizers:  # they do not depend on the weights: it is a sum for every estimate
                gradient = optax.tree.add(gradient, terms)
            updates, alpha_opt = alpha_optimizer.update(gradient, state.alpha_opt, state.alphas)
            return optax.apply_updates(state.alphas, updates), alpha_opt, found

        def wait():
            return state.alphas, state.alpha_opt, valid.of_alphas(state.params, state.alphas)[1]

        if not warmup_steps and alpha_interval == 1:
            return *move(), metrics
        early = state.step < warmup_steps
        between = (state.step + 1) % alpha_interval != 0
        return *lax.cond(early | between, wait, move), metrics

    def move_weights(state: SearchState, alphas, train: _Losses, valid: _Losses, key: jax.Array):
        mix = train.sample(alphas)
        if perturbation is not None:

            def loss(mix):
                return train.of_mix(state.params, mix)[0]

            mix = perturbation(key, loss, mix, state.step, mean)
        (gradient, _), found = gradients(train.of_mix, has_aux=True)(state.params, mix)
        gradient, extra, mask, metrics = mean(gradient), state.extra, None, {}
        if weight_penalty is not None:
            term, metrics = weight_penalty(
                lambda params, mix: train.of_mix(params, mix)[0],
                *(state.params, mix, state.step, mean),
            )
            gradient = optax.tree.add(gradient, term)
        if freeze is not None:
            both, _ = gradients(valid.of_alphas, has_aux=True)(state.params, alphas)
            disagreeing = mean(both[0])
            mask, extra = freeze.update(gradient, disagreeing, extra, candidates)
            # Neither in the norm that is clipped, nor moved by momentum and decay.
            gradient = jax.tree.map(jnp.multiply, gradient, mask)
        updates, weight_opt = weight_optimizer.update(gradient, state.weight_opt, state.params)
        if mask is not None:
            updates = jax.tree.map(jnp.multiply, updates, mask)
        return optax.apply_updates(state.params, updates), weight_opt, extra, found, metrics

    def step(state: SearchState, train_batch: Batch, valid_batch: Batch):
        train, valid, key = both_losses(state, train_batch, valid_batch)
        alphas, alpha_opt, (valid_sums, valid_carry), terms = move_alphas(state, train, valid)
        params, weight_opt, extra, (train_sums, train_carry), penalty = move_weights(
            state, alphas, train, valid, key
        )
        sums = total({"train": train_sums, "valid": valid_sums})
        after = {"train": train_carry, "valid": valid_carry} if state.carry else ()
        new = state._replace(
            params=params,
            alphas=alphas,
            weight_opt=weight_opt,
            alpha_opt=alpha_opt,
            step=state.step + 1,
            extra=extra,
            carry=after,
        )
        return new, {**sums, **terms, **penalty}

    def expected(alphas: Alphas, steps: jax.Array) -> Mix:
        return relaxation.expected(alphas, jnp.maximum(steps - 1, 0))

    def eigenvalue(state: SearchState, train_batch: Batch, valid_batch: Batch) -> jax.Array:
        _, valid, key = both_losses(state, train_batch, valid_batch)

        def loss(alphas):
            return valid.of_mix(state.params, expected(alphas, state.step))[0]

        product = eigen.hessian_vector_product(loss, state.alphas)
        return eigen.dominant_eigenvalue(lambda v: mean(product(v)), state.alphas, key)

    frozen = None if freeze is None else lambda state: freeze.frozen(state.extra)
    return Search(init, step, expected, eigenvalue, frozen)


def merge(graph: nnx.GraphDef, params: Any) -> nnx.Module:
    """A module from its graph and the plain arrays of its parameters."""
    return nnx.merge(graph, nnx.State(params))


class Skeleton(NamedTuple):
    """A supernet without its weights.

    Attributes:
      graph: for `merge`.
      weights: how many there are.
      params: their shapes, for `merge`.
    """

    graph: nnx.GraphDef
    weights: int
    params: nnx.State


@functools.lru_cache(maxsize=16)
def skeleton(space: SearchSpace, task: Task) -> Skeleton:
    """The supernet of a space, from shapes alone.

    Raises:
      ValueError: there is more than weights in it.
    """
    abstract = nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0)))
    graph, params, others = nnx.split(abstract, nnx.Param, ...)
    if jax.tree.leaves(others):
        names = sorted({type(v).__name__ for _, v in nnx.to_flat_state(others)})
        raise ValueError(
            f"the supernet of {space.name!r} holds state beside its weights ({', '.join(names)}); "
            "operations must take randomness from `key` and batch normalisation from `norm`"
        )
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
    return Skeleton(graph, count, params)


def check_single_path(
    space: SearchSpace, relaxation: Relaxation, perturbation: Perturbation | None
) -> None:
    """Raises ValueError unless mixes at which weights train name a single option of each row."""
    if perturbation is not None:
        raise ValueError(
            "perturbation must be left out: this supernet computes single paths, and a perturbed "
            "mix has several options in a row; or take mixing without single_path"
        )
    key = jax.random.key(0)
    alphas = initial_alphas(space.decisions, key)
    for name, table in relaxation.sample(key, alphas, jnp.zeros((), jnp.int32)).items():
        if not bool(((table > 0).sum(-1) == 1).all()):
            raise ValueError(
                f"relaxation must have one-hot samples: this supernet computes single paths, and it"
                f" mixes options of table {name!r}; take another, or mixing without single_path"
            )


def check_tables(space: SearchSpace, task: Task) -> None:
    """Raises ValueError unless the supernet reads every table of decisions; only traces.

    Alphas that nothing reads would stay at their initial noise, and be taken for a result.
    """
    if unread := _unread(space, task):
        raise ValueError(
            f"no part of the supernet of {space.name!r} reads the decisions "
            f"{', '.join(map(repr, unread))}, whose alphas could only stay at their initial noise; "
            f"expected {_sizes_that_work(space)}"
        )


@functools.lru_cache(maxsize=64)
def _unread(space: SearchSpace, task: Task) -> tuple[str, ...]:
    """The tables on which the supernet's outputs do not depend."""
    graph, _, params = skeleton(space, task)
    names = sorted(space.decisions)
    alphas = jax.eval_shape(lambda key: initial_alphas(space.decisions, key), jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((2, *task.inputs.shape), task.inputs.dtype)

    def outputs(tables, params, inputs, key):
        mix = dict(zip(names, tables, strict=True))
        carry = sequences.initial_carry(space, 2)
        return sequences.read(merge(graph, params), inputs, carry, mix, key=key)[0]

    arguments = [alphas[name] for name in names], nnx.to_pure_dict(params), inputs
    program = jax.make_jaxpr(outputs)(*arguments, jax.random.key(0)).jaxpr
    needed = set(map(id, program.outvars))
    for equation in reversed(program.eqns):  # variables that lead to outputs, from these backwards
        if not needed.isdisjoint(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
    tables = program.invars[: len(names)]
    return tuple(n for n, table in zip(names, tables, strict=True) if id(table) not in needed)


def _sizes_that_work(space: SearchSpace) -> str:
    """What to do about tables that nothing reads: more cells, if the space says how many."""
    sized = dataclasses.is_dataclass(space) and isinstance(space, SearchSpace)
    if sized and "cells" in {field.name for field in dataclasses.fields(space)}:
        for cells in range(space.cells + 1, space.cells + 33):
            if all(dataclasses.replace(space, cells=cells).layers.values()):
                return f"cells={cells} or more, not {space.cells}"
    return "a larger supernet, or a space without them"
