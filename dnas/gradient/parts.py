"""What a bilevel search is made of, its state, and the losses of a step."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import optax
from flax import nnx
from jax import lax

from dnas import arithmetic, sequences
from dnas.gradient.alignment import WeightPenalty
from dnas.gradient.freeze import Freeze
from dnas.gradient.hypergrad import Hypergradient
from dnas.gradient.perturb import Perturbation
from dnas.gradient.regularize import Regularizer
from dnas.gradient.relax import Relaxation
from dnas.gradient.skeleton import merge
from dnas.space import Alphas, Mix, SearchSpace
from dnas.tasks.task import Batch, Sums, Task


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


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What a search is made of; see `bilevel` for what the parts are.

    The functions of this module that take parts are the steps of the algorithm, each of which can
    be called alone.

    Attributes:
      space: the search space.
      task: what the supernet is for.
      graph: of the supernet, for `merge`.
      candidates: the owners of its parameters; none where nothing is frozen.
    """

    space: SearchSpace
    task: Task
    graph: nnx.GraphDef
    candidates: Mapping[tuple, Any]
    relaxation: Relaxation
    hypergradient: Hypergradient
    weight_optimizer: optax.GradientTransformation
    alpha_optimizer: optax.GradientTransformation
    regularizers: Sequence[Regularizer]
    weight_penalty: WeightPenalty | None
    perturbation: Perturbation | None
    freeze: Freeze | None
    auxiliary_skip: optax.Schedule | None
    skip_dropout: optax.Schedule | None
    warmup_steps: int
    alpha_interval: int
    alpha_scale: float
    carry: sequences.Carry
    dtype: str
    axis_name: str | None

    def mean(self, tree: Any) -> Any:
        """The mean over replicas."""
        return tree if self.axis_name is None else lax.pmean(tree, self.axis_name)

    def total(self, tree: Any) -> Any:
        """The sum over replicas."""
        return tree if self.axis_name is None else lax.psum(tree, self.axis_name)

    def own(self, key: jax.Array) -> jax.Array:
        """A key of this replica's own."""
        index = self.axis_name
        return key if index is None else jax.random.fold_in(key, lax.axis_index(index))

    @functools.cached_property
    def loss_of(self) -> Callable[..., tuple[jax.Array, tuple[Sums, Any]]]:
        """The loss as one function of arrays for both batches: traced and lowered only once."""

        @jax.jit
        def loss_of(params, mix, inputs, before, targets, key, modifiers):
            net = merge(self.graph, arithmetic.cast(params, self.dtype))
            inputs = arithmetic.cast(inputs, self.dtype)
            outputs, after = sequences.read(net, inputs, before, mix, key=key, **modifiers)
            loss, sums = self.task.loss(outputs, targets)
            return loss, (sums, after)

        return loss_of


class Losses(NamedTuple):
    """The losses of one batch in one step.

    Attributes:
      sample: ``alphas -> mix`` with the step's noise.
      of_mix: ``(params, mix) -> (loss, (sums, carry))``.
    """

    sample: Callable[[Alphas], Mix]
    of_mix: Callable[[Any, Mix], tuple[jax.Array, tuple[Sums, Any]]]

    def of_alphas(self, params: Any, alphas: Alphas) -> tuple[jax.Array, tuple[Sums, Any]]:
        """The loss at the sample of some alphas."""
        return self.of_mix(params, self.sample(alphas))


def losses(
    parts: Parts, state: SearchState, train_batch: Batch, valid_batch: Batch
) -> tuple[Losses, Losses, jax.Array]:
    """The losses of both batches with the step's noise, and a key for a perturbation."""
    train_key, valid_key, *mix_keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
    train = batch_losses(parts, state, "train", train_batch, train_key, mix_keys[0])
    valid = batch_losses(parts, state, "valid", valid_batch, valid_key, mix_keys[1])
    return train, valid, jax.random.fold_in(mix_keys[0], 2)


def batch_losses(
    parts: Parts,
    state: SearchState,
    stream: str,
    batch: Batch,
    batch_key: jax.Array,
    key: jax.Array,
) -> Losses:
    """The losses of one batch.

    Args:
      parts: of the search.
      state: before the step.
      stream: whose carry the supernet goes on with, ``'train'`` or ``'valid'``.
      batch: as the feed yields it.
      batch_key: of its preparation.
      key: of the relaxation's sample, the same on all replicas, and of random candidates.
    """
    inputs, targets = parts.task.prepare(parts.own(batch_key), batch, True)
    before = sequences.begun(state.carry[stream], parts.carry, batch) if state.carry else ()
    mix_key, network_key = jax.random.split(key)
    schedules = {"auxiliary_skip": parts.auxiliary_skip, "skip_dropout": parts.skip_dropout}
    modifiers = {n: value(state.step) for n, value in schedules.items() if value is not None}

    def sample(alphas):
        mix = parts.relaxation.sample(mix_key, alphas, state.step)
        chex.assert_trees_all_equal_shapes_and_dtypes(mix, alphas)  # a user's may err
        return mix

    def of_mix(params, mix):
        own = parts.own(network_key)
        return parts.loss_of(params, mix, inputs, before, targets, own, modifiers)

    return Losses(sample, of_mix)
