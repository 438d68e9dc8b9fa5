"""The step that trains the network of one genotype."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from dnas import arithmetic, sequences
from dnas.genotype import Genotype
from dnas.space import SearchSpace
from dnas.tasks.task import Batch, Sums, Task
from dnas.training import recipe as recipes
from dnas.training.recipe import Recipe

Arrays = dict[str, Any]  # nested dictionaries of arrays, as the network's attributes


class TrainState(NamedTuple):
    """All there is of a training: what is saved, resumed and replicated.

    Attributes:
      params: the network's parameters, float32.
      batch_stats: running averages of batch normalisation, float32.
      opt_state: the optimizer's state.
      key: the run's PRNG key; a step folds its number into it.
      step: number of steps taken, int32.
      carry: what the network carries from batch to batch; ``()`` where it carries nothing. See
        `dnas.sequences`.
    """

    params: Arrays
    batch_stats: Arrays
    opt_state: optax.OptState
    key: jax.Array
    step: jax.Array
    carry: Any = ()


class Training(NamedTuple):
    """How a network is trained; made by `supervised`.

    Attributes:
      init: ``key -> state``; jit it, and the whole initialisation is one program.
      step: ``(state, batch) -> (state, {'train': sums})`` with the sums of the task.
      network: ``state -> module``, the network with the state's weights, or with their average
        where the recipe has one.
      apply: ``(state, inputs, carry) -> (outputs, carry)``, in float32 with running averages.
    """

    init: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Sums]]]
    network: Callable[[TrainState], nnx.Module]
    apply: Callable[[TrainState, Any, sequences.Carry], tuple[Any, sequences.Carry]]


def supervised(
    space: SearchSpace,
    genotype: Genotype,
    task: Task,
    recipe: Recipe,
    *,
    total_steps: int,
    axis_name: str | None = None,
) -> Training:
    """Makes the pure functions that train the network of a genotype.

    Args:
      space: builds the network.
      genotype: which one.
      task: what it is for: its loss, and how batches are prepared.
      recipe: how it is trained.
      total_steps: over which learning rate and drop path develop.
      axis_name: of the replicas, over which gradients and running averages are averaged, and
        metrics added; None where there is one.

    Returns:
      The functions; nothing was computed yet.

    Raises:
      ValueError: the genotype, or the recipe's auxiliary head, does not fit the space.
    """
    optimizer = recipes.optimizer(recipe, total_steps)
    initial = sequences.initial_carry(space, recipe.batch_size)

    def build(key: jax.Array) -> nnx.Module:
        auxiliary = recipe.auxiliary_weight > 0
        return space.network(genotype, task, rngs=nnx.Rngs(key), auxiliary=auxiliary)

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(jax.random.key(0))))
    parts = Parts(build, graph, task, recipe, optimizer, initial, total_steps, axis_name)
    return Training(
        functools.partial(init, parts),
        functools.partial(arithmetic.within(recipe.dtype)(step), parts),
        functools.partial(network_of, parts),
        functools.partial(apply, parts),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What a training is made of; see `supervised`.

    Attributes:
      build: ``key -> network`` with its initial weights.
      graph: the network without its arrays.
      optimizer: of the recipe, for that many steps.
      initial: the carry with which a sequence begins.
    """

    build: Callable[[jax.Array], nnx.Module]
    graph: nnx.GraphDef
    task: Task
    recipe: Recipe
    optimizer: optax.GradientTransformation
    initial: sequences.Carry
    total_steps: int
    axis_name: str | None

    def merge(self, params: Arrays, batch_stats: Arrays) -> nnx.Module:
        """The network with these arrays."""
        return nnx.merge(self.graph, nnx.State(params), nnx.State(batch_stats))


def init(parts: Parts, key: jax.Array) -> TrainState:
    """The first state."""
    network_key, run_key = jax.random.split(key)
    _, *states = nnx.split(parts.build(network_key), nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    opt_state = parts.optimizer.init(params)
    return TrainState(params, batch_stats, opt_state, run_key, jnp.int32(0), parts.initial)


def loss(
    parts: Parts, params: Arrays, state: TrainState, key: jax.Array, batch: Batch
) -> tuple[jax.Array, tuple[Arrays, Sums, sequences.Carry]]:
    """The loss of a batch at some weights, with the new running averages, sums and carry."""
    task, recipe, dtype = parts.task, parts.recipe, parts.recipe.dtype
    batch_key, path_key = jax.random.split(key)
    inputs, targets = task.prepare(batch_key, batch, True)
    network = parts.merge(arithmetic.cast(params, dtype), state.batch_stats)
    drop = recipes.drop_path(recipe, state.step, parts.total_steps) if recipe.drop_path else None
    carry = sequences.begun(state.carry, parts.initial, batch)
    output, carry = sequences.read(
        network, arithmetic.cast(inputs, dtype), carry, train=True, key=path_key, drop_path=drop
    )
    value, sums = task.loss(output.logits, targets)
    if recipe.auxiliary_weight:
        value += recipe.auxiliary_weight * task.loss(output.auxiliary, targets)[0]
    batch_stats = arithmetic.cast(nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)), "float32")
    return value, (batch_stats, sums, carry)


def step(parts: Parts, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Sums]]:
    """Moves the weights along the gradient of the loss of a batch."""
    key, axis_name = jax.random.fold_in(state.key, state.step), parts.axis_name
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    gradient = jax.grad(lambda params: loss(parts, params, state, key, batch), has_aux=True)
    grads, (batch_stats, sums, carry) = gradient(state.params)
    if axis_name is not None:
        grads, batch_stats = lax.pmean((grads, batch_stats), axis_name)
        sums = lax.psum(sums, axis_name)
    updates, opt_state = parts.optimizer.update(grads, state.opt_state, state.params)
    params = cast(Arrays, optax.apply_updates(state.params, updates))
    new = TrainState(params, batch_stats, opt_state, state.key, state.step + 1, carry)
    return new, {"train": sums}


def network_of(parts: Parts, state: TrainState) -> nnx.Module:
    """The network with the weights of a state, or with their average."""
    params = recipes.tested(parts.recipe, state.params, state.opt_state)
    return parts.merge(params, state.batch_stats)


def apply(
    parts: Parts, state: TrainState, inputs: Any, carry: sequences.Carry
) -> tuple[Any, sequences.Carry]:
    """What the network of a state says of prepared inputs, outside of training."""
    key = jax.random.fold_in(state.key, state.step)  # for operations that are random
    network = network_of(parts, state)
    output, carry = sequences.read(network, inputs, carry, train=False, key=key)
    return output.logits, carry
