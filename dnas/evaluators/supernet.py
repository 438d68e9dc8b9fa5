"""A trained supernet: what it is worth at mixing weights, and how it is trained on."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas import arithmetic, capabilities, checks, choices, sequences
from dnas.choices import Tables, masked
from dnas.data import Feed
from dnas.evaluators.base import Score, Scores
from dnas.evaluators.remembered import measured
from dnas.gradient.bilevel import Search, SearchState
from dnas.gradient.skeleton import merge, skeleton
from dnas.runtime import loop, parallel, programs
from dnas.runtime.journal import Journal
from dnas.sequences import Carry
from dnas.space import Mix, SearchSpace
from dnas.tasks import Batch, Sums, Task, added

EXAMPLES = 1000
_DECIDED = 10.0  # the size of the logits of rows that are decided

# (params, inputs, carry, mix, key) -> (outputs, carry)
Forward = Callable[[Any, Any, Carry, Mix, jax.Array | None], tuple[Any, Carry]]


class Supernet:
    """A trained supernet on a data set.

    Everything runs on one device, and nothing is compiled before it is used. Batches are of the
    size that the search had, because the supernet normalises by the statistics of a batch. What
    validates and fine-tunes is float32, whatever the search's arithmetic.

    Attributes:
      state: the last state of the search, one replica; it stays as it is.
      steps_per_epoch: of `finetune` and `resume`.
      noise: PRNG key of candidates that are random, in validation; None for recurrent networks.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        search: Search,
        state: SearchState,
        feed: Feed,
        *,
        optimizer: optax.GradientTransformation,
        going_on: Callable[[], Search] | None = None,
        examples: int = EXAMPLES,
        journal: Journal,
    ):
        """Compiles nothing yet.

        Args:
          space: of the supernet, as the search was built with.
          task: what the supernet was built for.
          search: the search.
          state: its last state, one replica.
          feed: of the halves of the train split, as the search had it.
          optimizer: of the weights, for fine-tuning; starts afresh each time.
          going_on: makes the search that `resume` goes on with, whose state is like that of
            `search`; by default that is `search`, whose learning rate may have come to its end.
          examples: of the architecture's half to validate on, rounded to whole batches; no more
            than there are, and no less than one batch.
          journal: answers what was measured before.
        """
        checks.whole("examples", examples)
        self.state, self.steps_per_epoch = state, feed.steps_per_epoch
        # Candidates that are random need a key; with one, recurrent networks drop elements.
        carries = isinstance(space, sequences.Carrying)
        self.noise = None if carries else jax.random.fold_in(state.key, 0)
        self._space, self._task, self._feed, self._journal = space, task, feed, journal
        self._optimizer, self._going_on = optimizer, going_on or (lambda: search)
        self._carry = sequences.initial_carry(space, feed.batch_size)
        self._batches = functools.cache(lambda: feed.validation(examples))

    def validate(self, state: Any, mixes: Tables, single_path: bool = False) -> Scores:
        """How a supernet does on fixed examples of the architecture's half.

        Args:
          state: of the search, or what `finetune` and `resume` returned.
          mixes: mixing weights ``[n, rows, options]``.
          single_path: computes no more than one option of a row, which is quicker; for mixes with
            at most one weight above zero in each row of operations.
        """
        validate = self._validators[single_path]
        return measured(
            self._journal,
            f"validation of {choices.count(mixes)}",
            lambda: validate(self._journal.loaded(state).params, mixes),
        )

    def finetune(self, state: Any, mix: Tables, steps: int) -> Any:
        """Trains the weights at fixed mixing weights, on their own half, and returns the state."""

        def train(state: SearchState) -> tuple[SearchState, Tables]:
            return self._tune(state, mix, steps), {}

        return self._journal.trained(f"finetune for {steps}", state, train)[0]

    def resume(self, state: Any, masks: Tables, steps: int) -> tuple[Any, Tables]:
        """Goes on with the search, weights and alphas.

        Between steps the rows that are decided are put back. Their logits are so far apart that
        every relaxation but the uniform one takes the option that is left.

        Args:
          state: of the search, or what `finetune` and `resume` returned.
          masks: rows with a single 1 are decided, tables of ones are not.
          steps: how many.

        Returns:
          The state, and the mixing weights of what is left.
        """

        def train(state: SearchState) -> tuple[SearchState, Tables]:
            search, advance = self._resumed
            carry = jax.tree.map(jnp.copy, (state, _arrays(masks)))
            start = int(state.step)
            state, _ = loop.advanced(carry, advance, self._feed, start, steps, self._journal.check)
            mix = search.mix(_clamped(state.alphas, _arrays(masks)), state.step)
            return state, masked(mix, masks)

        return self._journal.trained(f"search for {steps}", state, train)

    @functools.cached_property
    def _validators(self) -> Sequence[Callable[[Any, Tables], Scores]]:
        """By whether single paths are computed."""
        networks = [forward(self._space, self._task, single) for single in (False, True)]
        return [
            validator(network, self._task, self._batches, self.noise, self._carry)
            for network in networks
        ]

    @functools.cached_property
    def _tune(self) -> Callable[[SearchState, Tables, int], SearchState]:
        mixed = forward(self._space, self._task)
        check = self._journal.check
        return tuner(mixed, self._task, self._optimizer, self._feed, check, self._carry)

    @functools.cached_property
    def _resumed(self) -> tuple[Search, parallel.Advance]:
        search = self._going_on()

        def step(carry, *batches):
            state, masks = carry
            state, _ = search.step(state._replace(alphas=_clamped(state.alphas, masks)), *batches)
            return (state, masks), {}

        return search, parallel.make("none").advance(step)


def forward(space: SearchSpace, task: Task, single_path: bool = False) -> Forward:
    """The supernet of a space as a function of its weights and of what it carries.

    Args:
      space: the search space.
      task: what the supernet is built for.
      single_path: whether it computes one option of a row alone, if the space can.
    """
    space = capabilities.with_mixing(space, single_path=single_path)
    graph = skeleton(space, task).graph

    def read(params, inputs, carry, mix, key):
        return sequences.read(merge(graph, params), inputs, carry, mix, key=key)

    return read


def validator(
    forward: Forward,
    task: Task,
    batches: Callable[[], Sequence[Batch]],
    key: jax.Array | None,
    carry: Carry = (),
) -> Callable[[Any, Tables], Scores]:
    """Makes ``(params, mixes) -> scores``: a dispatch for each mix and batch, not waited for.

    Args:
      forward: the network.
      task: knows its loss and score.
      batches: to validate on, in order.
      key: of candidates that are random.
      carry: what the network begins a sequence with.
    """

    @programs.once
    @jax.jit
    @arithmetic.within("float32")
    def sums_of(params, mix, before, batch):
        inputs, targets = task.prepare(None, batch, train=False)
        before = sequences.begun(before, carry, batch)
        outputs, after = forward(params, inputs, before, mix, key)
        return task.loss(outputs, targets)[1], after

    def validate(params: Any, mixes: Tables) -> Scores:
        found = []
        for i in range(choices.count(mixes)):
            mix = {name: jnp.asarray(tables[i], jnp.float32) for name, tables in mixes.items()}
            found.append([])
            after = carry
            for batch in batches():
                sums, after = sums_of(params, mix, after, batch)
                found[-1].append(sums)
        return Scores.of([_score(task, sums) for sums in jax.device_get(found)])

    return validate


def _score(task: Task, batches: Sequence[Sums]) -> Score:
    """The score of the summed batches; a loss that is NaN is the worst."""
    sums = added(batches)
    value, error = task.score(sums)
    metrics = {name: np.inf if np.isnan(x) else x for name, x in task.metrics(sums).items()}
    return Score(value, error, 0.0, metrics)


def tuner(
    forward: Forward,
    task: Task,
    optimizer: optax.GradientTransformation,
    feed: Feed,
    check: Callable[[], None],
    carry: Carry = (),
) -> Callable[[SearchState, Tables, int], SearchState]:
    """Makes ``(state, mix, steps) -> state``: trains the weights of a state at a mix.

    Args:
      forward: the network.
      task: knows its loss.
      optimizer: of the weights; starts afresh each time.
      feed: its first part trains, on the batches behind those that the state has seen.
      check: called after each dispatch; may raise to stop.
      carry: what the network begins a sequence with.
    """

    @arithmetic.within("float32")
    def step(state, batch, _):
        params, opt_state, mix, number, key, before = state
        data_key, network_key = jax.random.split(jax.random.fold_in(key, number))
        inputs, targets = task.prepare(data_key, batch, train=True)
        before = sequences.begun(before, carry, batch)

        def loss(params):
            outputs, after = forward(params, inputs, before, mix, network_key)
            return task.loss(outputs, targets)[0], after

        gradient, after = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (params, opt_state, mix, number + 1, key, after), {}

    advance = parallel.make("none").advance(step)

    def tune(state: SearchState, mix: Tables, steps: int) -> SearchState:
        params = jax.tree.map(jnp.copy, state.params)  # what `advance` gets is donated
        fixed = {name: jnp.array(table, jnp.float32) for name, table in mix.items()}
        numbers = jnp.copy(state.step), jnp.copy(state.key), jax.tree.map(jnp.copy, carry)
        before = (params, optimizer.init(params), fixed, *numbers)
        after = loop.advanced(before, advance, feed, int(state.step), steps, check)
        return state._replace(params=after[0], step=after[3])

    return tune


def _clamped(alphas: Mix, masks: Mix) -> Mix:
    """Alphas whose decided rows are put back."""

    def table(logits, mask):
        decided = mask.sum(-1, keepdims=True) < mask.shape[-1]
        return jnp.where(decided, _DECIDED * (2 * mask - 1), logits)

    return {name: table(alphas[name], masks[name]) for name in alphas}


def _arrays(tables: Tables) -> Mix:
    return {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}
