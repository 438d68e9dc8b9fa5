"""The step that trains the network of one genotype."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from dnas import sequences
from dnas.genotype import Genotype
from dnas.jobs import recipe as recipes
from dnas.jobs.recipe import Recipe
from dnas.space import SearchSpace
from dnas.tasks.task import Batch, Sums, Task

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
    dtype = jnp.dtype(recipe.dtype)
    optimizer = recipes.optimizer(recipe, total_steps)
    initial = sequences.initial_carry(space, recipe.batch_size)

    def build(key):
        network = space.network(
            genotype, task, rngs=nnx.Rngs(key), auxiliary=recipe.auxiliary_weight > 0
        )
        graph, params, batch_stats = nnx.split(network, nnx.Param, nnx.BatchStat)
        return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)

    graph = jax.eval_shape(build, jax.random.key(0))[0]

    def merge(params, batch_stats):
        return nnx.merge(graph, nnx.State(params), nnx.State(batch_stats))

    def init(key: jax.Array) -> TrainState:
        network_key, run_key = jax.random.split(key)
        _, params, batch_stats = build(network_key)
        return TrainState(
            params, batch_stats, optimizer.init(params), run_key, jnp.int32(0), initial
        )

    def loss_fn(params, batch_stats, key, step, carry, batch):
        batch_key, path_key = jax.random.split(key)
        inputs, targets = task.prepare(batch_key, batch, True)
        network = merge(_cast(params, dtype), batch_stats)
        drop = recipes.drop_path(recipe, step, total_steps) if recipe.drop_path else None
        carry = sequences.begun(carry, initial, batch)
        output, carry = sequences.read(
            network, _cast(inputs, dtype), carry, train=True, key=path_key, drop_path=drop
        )
        loss, sums = task.loss(output.logits, targets)
        if recipe.auxiliary_weight:
            loss += recipe.auxiliary_weight * task.loss(output.auxiliary, targets)[0]
        batch_stats = _cast(nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)), jnp.float32)
        return loss, (batch_stats, sums, carry)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Sums]]:
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, lax.axis_index(axis_name))
        grads, (batch_stats, sums, carry) = jax.grad(loss_fn, has_aux=True)(
            state.params, state.batch_stats, key, state.step, state.carry, batch
        )
        if axis_name is not None:
            grads, batch_stats = lax.pmean((grads, batch_stats), axis_name)
            sums = lax.psum(sums, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = cast(Arrays, optax.apply_updates(state.params, updates))
        new = TrainState(params, batch_stats, opt_state, state.key, state.step + 1, carry)
        return new, {"train": sums}

    def network(state: TrainState) -> nnx.Module:
        params = recipes.tested(recipe, state.params, state.opt_state)
        return merge(params, state.batch_stats)

    def apply(
        state: TrainState, inputs: Any, carry: sequences.Carry
    ) -> tuple[Any, sequences.Carry]:
        key = jax.random.fold_in(state.key, state.step)  # for operations that are random
        output, carry = sequences.read(network(state), inputs, carry, train=False, key=key)
        return output.logits, carry

    return Training(init, step, network, apply)


def _cast(tree: Any, dtype: jnp.dtype) -> Any:
    """Casts numbers; integers, such as tokens, stay as they are."""

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)
