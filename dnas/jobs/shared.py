"""A trained supernet, made ready for selections (see `dnas.selection`)."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dnas import checks, costs
from dnas import data as datasets
from dnas.data import Augment, Dataset, Feed, Split, evaluation_batches
from dnas.gradient.bilevel import Search, SearchState, merge
from dnas.runtime import initialize, loop, parallel, programs
from dnas.runtime.ahead import Ahead
from dnas.runtime.journal import Journal
from dnas.runtime.progress import Progress
from dnas.selection import Shared, masked
from dnas.selection.shared import Tables
from dnas.space import Mix, SearchSpace, Task

IMAGES = 1000
TRAININGS = 2  # at a time on a CPU, whose cores a small network leaves idle; more was not measured
DECIDED = 10.0  # the size of the logits of rows that are decided

# (params, images, mix, key) -> logits
Forward = Callable[[Any, jax.Array, Mix, jax.Array], jax.Array]
Evaluate = Callable[[Any, Tables], tuple[np.ndarray, np.ndarray]]  # (state, mixes)
Tune = Callable[[Any, Tables, int], Any]  # (state, mix, steps) -> state


def make_shared(
    space: SearchSpace,
    data: Dataset,
    search: Search,
    state: SearchState,
    *,
    steps: int | None = None,
    feed: Feed,
    optimizer: optax.GradientTransformation,
    training: Callable[[int], optax.GradientTransformation] | None = None,
    going_on: Callable[[], Search] | None = None,
    augment: Augment | None = None,
    images: int = IMAGES,
    key: jax.Array,
    journal: Journal,
    progress: bool = False,
) -> Shared:
    """Makes what selections need of a finished search. Nothing is compiled before it is used.

    Everything runs on one device. Batches are of the size that the search had, because the
    supernet normalises by the statistics of a batch. Each of the functions compiles once, but for
    `train`: once for each number of steps.

    Args:
      space: of the supernet, as the search was built with.
      data: the data set.
      search: the search.
      state: its last state, one replica; it stays as it is.
      steps: the number of steps that had been taken when its alphas were so, where a stopping rule
        went back to earlier ones; those of the state by default.
      feed: of the halves of the train split, as the search had it.
      optimizer: of the weights, for fine-tuning; starts afresh each time.
      training: the same for trainings from scratch, given their steps; `optimizer` by default.
      going_on: makes the search that `resume` goes on with, whose state is like that of `search`;
        by default that is `search`, whose learning rate may have come to its end.
      augment: what is done to train images; nothing by default.
      images: of the architecture's half to validate on, rounded to whole batches; no more than
        there are, and no less than one batch.
      key: of the selection.
      journal: answers what was measured before.
      progress: whether trainings show theirs.
    """
    checks.whole("images", images)
    task = Task(data.image_shape, data.classes)
    mix = search.mix(state.alphas, state.step if steps is None else steps)
    preprocess = datasets.preprocess(augment or Augment(), data.mean, data.std)
    batches, every = (
        functools.cache(functools.partial(_batches, feed.parts[1], feed.batch_size, count))
        for count in (images, len(feed.parts[1]))
    )
    forward = _forward(_mixing(space, single_path=False), task)
    single = _forward(_mixing(space, single_path=True), task)
    normalise = functools.partial(datasets.normalise, mean=data.mean, std=data.std)
    noise = jax.random.fold_in(state.key, 0)  # of candidates that are random
    evaluate = functools.partial(_evaluator, normalise=normalise, key=noise)
    tune = functools.partial(_tuner, preprocess=preprocess, feed=feed, journal=journal)
    return Shared(
        space=space,
        mix={name: np.asarray(table) for name, table in mix.items()},
        state=state,
        accuracy=_accuracy(evaluate(forward, batches), journal),
        finetune=_finetune(tune(forward, optimizer), journal),
        resume=_resume(going_on or (lambda: search), feed, journal),
        steps_per_epoch=feed.steps_per_epoch,
        key=key,
        discrete=_accuracy(evaluate(single, batches), journal),
        train=_train(
            search.init,
            lambda steps: tune(single, training(steps) if training else optimizer),
            evaluate(single, every),
            key,
            journal,
            progress,
        ),
        images=len(feed.parts[1]) // feed.batch_size * feed.batch_size,
        parameters=functools.partial(costs.parameters, space, task) if costs.known(space) else None,
    )


def _mixing(space: SearchSpace, **changes: Any) -> SearchSpace:
    """The space whose supernet has the same weights and mixes them otherwise, if it can."""
    mixing = getattr(space, "mixing", None)
    return (
        space if mixing is None else dataclasses.replace(space, mixing=mixing._replace(**changes))
    )


def _forward(space: SearchSpace, task: Task) -> Forward:
    graph = nnx.graphdef(nnx.eval_shape(lambda: space.supernet(task, rngs=nnx.Rngs(0))))
    return lambda params, images, mix, key: merge(graph, params)(images, mix, key=key)


def _batches(split: Split, batch_size: int, images: int) -> list[dict[str, jax.Array]]:
    """The images to validate on, evenly spread over the split, in whole batches."""
    count = max(1, min(images, len(split)) // batch_size) * batch_size
    some = split.indices[np.linspace(0, len(split) - 1, count).astype(np.int64)]
    return [batch for batch, _ in evaluation_batches(Split(split.source, some), batch_size)]


def _loss(
    forward: Forward, params: Any, images: jax.Array, labels: jax.Array, mix: Mix, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits = forward(params, images, mix, key)
    error = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return error, (logits.argmax(-1) == labels).mean(dtype=jnp.float32)


def _accuracy(evaluate: Evaluate, journal: Journal) -> Evaluate:
    """`Shared.accuracy`."""

    def accuracy(state: Any, mixes: Tables) -> tuple[np.ndarray, np.ndarray]:
        kind = f"accuracy of {len(next(iter(mixes.values())))}"
        return journal.measured(kind, lambda: evaluate(journal.loaded(state), mixes))

    return accuracy


def _evaluator(
    forward: Forward,
    batches: Callable[[], list[dict[str, jax.Array]]],
    *,
    normalise: Callable[[jax.Array], jax.Array],
    key: jax.Array,
) -> Evaluate:
    """Losses and accuracies of mixes: a dispatch for each and each batch, not waited for."""

    @programs.once
    @jax.jit
    def evaluate(params, mix, batch):
        return _loss(forward, params, normalise(batch["image"]), batch["label"], mix, key)

    def evaluate_all(state: SearchState, mixes: Tables) -> tuple[np.ndarray, np.ndarray]:
        count = len(next(iter(mixes.values())))
        found = []
        for i in range(count):
            mix = {name: jnp.asarray(tables[i], jnp.float32) for name, tables in mixes.items()}
            found.append([evaluate(state.params, mix, batch) for batch in batches()])
        losses, accuracies = np.moveaxis(np.asarray(jax.device_get(found)), -1, 0).mean(-1)
        return losses, accuracies

    return evaluate_all


def _finetune(tune: Tune, journal: Journal) -> Tune:
    """`Shared.finetune`."""

    def finetune(state: Any, mix: Tables, steps: int) -> Any:
        kind = f"finetune for {steps}"
        return journal.trained(kind, state, lambda state: (tune(state, mix, steps), {}))[0]

    return finetune


def _tuner(
    forward: Forward,
    optimizer: optax.GradientTransformation,
    *,
    preprocess: Callable[[jax.Array, jax.Array], jax.Array],
    feed: Feed,
    journal: Journal,
) -> Tune:
    """Trains the weights of a state at a mix."""

    def step(carry, batch, _):
        params, opt_state, mix, number, key = carry
        image_key, network_key = jax.random.split(jax.random.fold_in(key, number))
        images = preprocess(image_key, batch["image"])

        def loss(params):
            return _loss(forward, params, images, batch["label"], mix, network_key)

        gradient, _ = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, mix, number + 1, key), {}

    advance = parallel.make("none").advance(step)

    def tune(state: SearchState, mix: Tables, steps: int) -> SearchState:
        params = jax.tree.map(jnp.copy, state.params)  # what `advance` gets is donated
        mix = {name: jnp.array(table, jnp.float32) for name, table in mix.items()}
        carry = (params, optimizer.init(params), mix, jnp.copy(state.step), jnp.copy(state.key))
        carry = _run(advance, carry, feed, int(state.step), steps, journal)
        return state._replace(params=carry[0], step=carry[3])

    return tune


def _train(
    init: Callable[[jax.Array], SearchState],
    tuner: Callable[[int], Tune],
    evaluate: Evaluate,
    key: jax.Array,
    journal: Journal,
    progress: bool,
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`Shared.train`: all architectures begin with the same weights and see the same images."""
    init = initialize.compiled(init)
    first = functools.cache(lambda weights: init(jax.random.fold_in(key, weights)))
    tuner = functools.cache(tuner)
    compiled = set()

    def train(steps: int, mixes: Tables, weights: int = 0) -> tuple[np.ndarray, np.ndarray]:
        found, made, count = [], [], len(next(iter(mixes.values())))
        title = f"trainings from scratch for {steps} steps"
        bar = Progress(title, count * steps, 0, count, show=progress, unit="training")

        def one(i: int) -> tuple[np.ndarray, np.ndarray]:
            mix = {name: tables[i] for name, tables in mixes.items()}
            trained = tuner(steps)(first(weights), mix, steps)
            return evaluate(trained, {name: tables[i : i + 1] for name, tables in mixes.items()})

        with contextlib.closing(bar), Ahead(one, count, _at_a_time()) as ahead:

            def measure(i: int) -> tuple[np.ndarray, np.ndarray]:
                made.append(i)
                first(weights)  # before several trainings ask for it at a time
                if steps not in compiled:
                    bar.compiling()
                return ahead(i, alone=steps not in compiled)

            if steps in compiled:
                bar.compiled()
            for i in range(count):
                kind = f"training for {steps}" + (f" from weights {weights}" if weights else "")
                found.append(journal.measured(kind, functools.partial(measure, i)))
                bar.update(i + 1, (i + 1) * steps, {"valid_accuracy": found[-1][1][0]})
                if made and steps not in compiled:
                    bar.compiled()  # neither this time nor answers from the journal tell the speed
                    compiled.add(steps)
        losses, accuracies = np.concatenate(found, -1)
        return losses, accuracies

    return train


def _at_a_time() -> int:
    """How many trainings are run at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(TRAININGS, cores or 1) if jax.default_backend() == "cpu" else 1


def _resume(
    make: Callable[[], Search], feed: Feed, journal: Journal
) -> Callable[[Any, Tables, int], tuple[Any, Tables]]:
    """`Shared.resume`: steps of the search, between which the rows that are decided are put back.

    Their logits are so far apart that every relaxation but the uniform one takes the option that
    is left.
    """

    def clamp(alphas, masks):
        def table(logits, mask):
            decided = mask.sum(-1, keepdims=True) < mask.shape[-1]
            return jnp.where(decided, DECIDED * (2 * mask - 1), logits)

        return {name: table(alphas[name], masks[name]) for name in alphas}

    @functools.cache
    def made():
        search = make()

        def step(carry, *batches):
            state, masks = carry
            state, _ = search.step(state._replace(alphas=clamp(state.alphas, masks)), *batches)
            return (state, masks), {}

        return search, parallel.make("none").advance(step)

    def go_on(state: SearchState, masks: Tables, steps: int) -> tuple[SearchState, Tables]:
        search, advance = made()
        carry = jax.tree.map(jnp.copy, (state, _arrays(masks)))
        state, _ = _run(advance, carry, feed, int(state.step), steps, journal)
        mix = search.mix(clamp(state.alphas, _arrays(masks)), state.step)
        return state, masked(mix, masks)

    def resume(state: Any, masks: Tables, steps: int) -> tuple[Any, Tables]:
        kind = f"search for {steps}"
        return journal.trained(kind, state, lambda state: go_on(state, masks, steps))

    return resume


def _arrays(tables: Tables) -> Mix:
    return {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}


def _run(
    advance: parallel.Advance, carry: Any, feed: Feed, start: int, steps: int, journal: Journal
) -> Any:
    """Some steps, on the images that come after those of step `start`."""
    with contextlib.closing(feed.chunks(start, start + steps, loop.default_chunk())) as chunks:
        for batches, count in chunks:
            carry, _ = advance(carry, batches, count)
            journal.check()
    return carry
