"""A trained supernet, made ready for selections (see `dnas.selection`)."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dnas import checks, parallel
from dnas import data as datasets
from dnas.bilevel import Search, SearchState, merge
from dnas.data import Augment, Dataset, Feed, Split, evaluation_batches
from dnas.jobs import initialize, loop
from dnas.jobs.progress import Progress
from dnas.selection import Shared, masked
from dnas.selection.shared import Tables
from dnas.space import Mix, SearchSpace, Task

IMAGES = 1000
DECIDED = 10.0  # the size of the logits of rows that are decided

# (params, images, mix, key) -> logits
Forward = Callable[[Any, jax.Array, Mix, jax.Array], jax.Array]


def make_shared(
    space: SearchSpace,
    data: Dataset,
    search: Search,
    state: SearchState,
    *,
    feed: Feed,
    optimizer: optax.GradientTransformation,
    training: Callable[[int], optax.GradientTransformation] | None = None,
    augment: Augment | None = None,
    images: int = IMAGES,
    key: jax.Array,
    progress: bool = False,
) -> Shared:
    """Makes what selections need of a finished search. Nothing is compiled before it is used.

    Everything runs on one device. Batches are of the size that the search had, because the
    supernet normalises by the statistics of a batch. Each of the functions compiles once.

    Args:
      space: of the supernet, as the search was built with.
      data: the data set.
      search: the search.
      state: its last state, one replica; it stays as it is.
      feed: of the halves of the train split, as the search had it.
      optimizer: of the weights, for fine-tuning; starts afresh each time.
      training: the same for trainings from scratch, given their steps; `optimizer` by default.
      augment: what is done to train images; nothing by default.
      images: of the architecture's half to validate on, rounded to whole batches; no more than
        there are, and no less than one batch.
      key: of the selection.
      progress: whether trainings show theirs.
    """
    checks.whole("images", images)
    task = Task(data.image_shape, data.classes)
    preprocess = datasets.preprocess(augment or Augment(), data.mean, data.std)
    batches, every = (
        functools.cache(functools.partial(_batches, feed.parts[1], feed.batch_size, count))
        for count in (images, len(feed.parts[1]))
    )
    forward = _forward(_mixing(space, single_path=False), task)
    single = _forward(_mixing(space, single_path=True), task)
    normalise = functools.partial(datasets.normalise, mean=data.mean, std=data.std)
    noise = jax.random.fold_in(state.key, 0)  # of candidates that are random
    return Shared(
        space=space,
        mix={name: np.asarray(table) for name, table in search.mix(state.alphas).items()},
        state=state,
        accuracy=_accuracy(forward, normalise, batches, noise),
        finetune=_finetune(forward, preprocess, optimizer, feed),
        resume=_resume(search, feed),
        steps_per_epoch=feed.steps_per_epoch,
        key=key,
        discrete=_accuracy(single, normalise, batches, noise),
        train=_train(
            search.init,
            lambda steps: _finetune(
                single, preprocess, training(steps) if training else optimizer, feed
            ),
            _accuracy(single, normalise, every, noise),
            jax.random.fold_in(key, 0),
            progress,
        ),
        images=len(feed.parts[1]) // feed.batch_size * feed.batch_size,
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


def _accuracy(
    forward: Forward,
    normalise: Callable[[jax.Array], jax.Array],
    batches: Callable[[], list[dict[str, jax.Array]]],
    key: jax.Array,
) -> Callable[[SearchState, Tables], tuple[np.ndarray, np.ndarray]]:
    """`Shared.accuracy`: a dispatch for each mix and batch, which the host does not wait for."""

    @jax.jit
    def evaluate(params, mix, batch):
        return _loss(forward, params, normalise(batch["image"]), batch["label"], mix, key)

    def accuracy(state: SearchState, mixes: Tables) -> tuple[np.ndarray, np.ndarray]:
        count = len(next(iter(mixes.values())))
        found = []
        for i in range(count):
            mix = {name: jnp.asarray(tables[i], jnp.float32) for name, tables in mixes.items()}
            found.append([evaluate(state.params, mix, batch) for batch in batches()])
        losses, accuracies = np.moveaxis(np.asarray(jax.device_get(found)), -1, 0).mean(-1)
        return losses, accuracies

    return accuracy


def _finetune(
    forward: Forward,
    preprocess: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    feed: Feed,
) -> Callable[[SearchState, Tables, int], SearchState]:
    """`Shared.finetune`."""

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

    def finetune(state: SearchState, mix: Tables, steps: int) -> SearchState:
        params = jax.tree.map(jnp.copy, state.params)  # what `advance` gets is donated
        mix = {name: jnp.array(table, jnp.float32) for name, table in mix.items()}
        carry = (params, optimizer.init(params), mix, jnp.copy(state.step), jnp.copy(state.key))
        carry = _run(advance, carry, feed, int(state.step), steps)
        return state._replace(params=carry[0], step=carry[3])

    return finetune


def _train(
    init: Callable[[jax.Array], SearchState],
    finetune: Callable[[int], Callable[[SearchState, Tables, int], SearchState]],
    accuracy: Callable[[SearchState, Tables], tuple[np.ndarray, np.ndarray]],
    key: jax.Array,
    progress: bool,
) -> Callable[[int, Tables], tuple[np.ndarray, np.ndarray]]:
    """`Shared.train`: all architectures begin with the same weights and see the same images."""
    first = functools.cache(lambda: initialize.compiled(init)(key))
    tuners: dict[int, Callable[[SearchState, Tables, int], SearchState]] = {}

    def train(steps: int, mixes: Tables) -> tuple[np.ndarray, np.ndarray]:
        found, count = [], len(next(iter(mixes.values())))
        bar = Progress("short trainings", count * steps, 0, count, show=progress)
        with contextlib.closing(bar):
            if steps not in tuners:
                bar.compiling()
                tuners[steps] = finetune(steps)
            for i in range(count):
                mix = {name: tables[i] for name, tables in mixes.items()}
                trained = tuners[steps](first(), mix, steps)
                mine = {name: tables[i : i + 1] for name, tables in mixes.items()}
                found.append(accuracy(trained, mine))
                bar.update(i + 1, (i + 1) * steps, {"valid_accuracy": found[-1][1][0]})
                if not i:
                    bar.compiled()
        losses, accuracies = np.concatenate(found, -1)
        return losses, accuracies

    return train


def _resume(
    search: Search, feed: Feed
) -> Callable[[SearchState, Tables, int], tuple[SearchState, Tables]]:
    """`Shared.resume`: steps of the search, between which the rows that are decided are put back.

    Their logits are so far apart that every relaxation but the uniform one takes the option that
    is left.
    """

    def clamp(alphas, masks):
        def table(logits, mask):
            decided = mask.sum(-1, keepdims=True) < mask.shape[-1]
            return jnp.where(decided, DECIDED * (2 * mask - 1), logits)

        return {name: table(alphas[name], masks[name]) for name in alphas}

    def step(carry, *batches):
        state, masks = carry
        state, _ = search.step(state._replace(alphas=clamp(state.alphas, masks)), *batches)
        return (state, masks), {}

    advance = parallel.make("none").advance(step)

    def resume(state: SearchState, masks: Tables, steps: int) -> tuple[SearchState, Tables]:
        carry = jax.tree.map(jnp.copy, (state, _arrays(masks)))
        state, _ = _run(advance, carry, feed, int(state.step), steps)
        return state, masked(search.mix(clamp(state.alphas, _arrays(masks))), masks)

    return resume


def _arrays(tables: Tables) -> Mix:
    return {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}


def _run(advance: parallel.Advance, carry: Any, feed: Feed, start: int, steps: int) -> Any:
    """Some steps, on the images that come after those of step `start`."""
    for batches, count in feed.chunks(start, start + steps, loop.default_chunk()):
        carry, _ = advance(carry, batches, count)
    return carry
