"""The contract of tasks as a check."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnas.tasks import Batch, Estimate, Task


def check_task(
    task: Task,
    batch: Batch,
    *,
    outputs: Callable[[jax.Array], Any] | None = None,
    key: jax.Array | int = 0,
) -> None:
    """Checks the contract of `dnas.tasks.Task` on a batch.

    A task is plain data that can be hashed. It prepares what it promises, the same for the same
    key. Its head has weights and nothing else. Sums add up over examples, and those without weight
    do not count. The loss is the one that the metrics tell, with their ``'regularization'`` if they
    have one. An evaluation agrees with them.

    Args:
      task: what is checked.
      batch: at least two examples, an even number of them, as its data set would yield them.
      outputs: ``key -> outputs`` of a network on the batch; by default the head's on random
        features ``[batch, 4, 4, channels]`` and ``[batch, 2, 2, channels]``.
      key: of everything random.

    Raises:
      AssertionError: the contract is broken; the message says where.
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    expect(hash(task) == hash(task) and task == task, "it cannot be hashed and compared")
    _check_examples(task, batch)
    size = len(next(iter(batch.values())))
    _check_prepare(task, batch, size, key)
    _, targets = task.prepare(None, batch, False)
    found = outputs(key) if outputs is not None else _head(task, size, key)
    _check_sums(task, found, targets, size)
    _check_evaluation(task, found, targets, size)
    described = json.dumps(task.describe())
    expect(json.loads(described).get("task") == task.name, "describe does not name the task")


def expect(good: bool, problem: str) -> None:
    """Raises AssertionError with the problem unless all is good."""
    if not good:
        raise AssertionError(problem)


def _check_examples(task: Task, batch: Batch) -> None:
    shapes = {name: (x.shape[1:], np.dtype(x.dtype)) for name, x in batch.items()}
    promised = {name: (x.shape, np.dtype(x.dtype)) for name, x in task.examples.items()}
    expect(shapes == promised, f"examples promises {promised}, the batch holds {shapes}")


def _check_prepare(task: Task, batch: Batch, size: int, key: jax.Array) -> None:
    for train in (True, False):
        own = key if train else None
        inputs, targets = jax.jit(lambda k, b, t=train: task.prepare(k, b, t))(own, batch)
        again, _ = task.prepare(own, batch, train)
        told = (inputs.shape, inputs.dtype) == ((size, *task.inputs.shape), task.inputs.dtype)
        expect(told, f"prepare makes {inputs.shape} {inputs.dtype}, inputs promises {task.inputs}")
        close = np.allclose(inputs, again, rtol=1e-5, atol=1e-5)
        expect(close, "prepare makes something else of the same key")
        sizes = {len(x) for x in jax.tree.leaves(targets)}
        expect(sizes == {size}, f"targets have leading axes {sizes}, the batch has {size}")


def _head(task: Task, size: int, key: jax.Array) -> Any:
    """What the head says of random features."""
    channels = (4, 6)
    head = task.head(channels, rngs=nnx.Rngs(0))
    _, _, others = nnx.split(head, nnx.Param, ...)
    expect(not jax.tree.leaves(others), "the head holds state beside its weights")
    keys = jax.random.split(key, 2)
    features = tuple(
        jax.random.normal(k, (size, side, side, c))
        for k, side, c in zip(keys, (4, 2), channels, strict=True)
    )
    # Declared weights get their values with those of a network; here any do.
    state = nnx.state(head, nnx.Param)
    drawn = [
        0.3 * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        for i, x in enumerate(jax.tree.leaves(state))
    ]
    nnx.update(head, jax.tree.unflatten(jax.tree.structure(state), drawn))
    graph, state = nnx.split(head)
    return jax.jit(lambda state, features: nnx.merge(graph, state)(features))(state, features)


def _check_sums(task: Task, outputs: Any, targets: Any, size: int) -> None:
    loss_of = jax.jit(task.loss)
    loss, sums = loss_of(outputs, targets)
    expect(loss.shape == () and loss.dtype == jnp.float32, "the loss is no float32 scalar")
    expect("loss" in sums, "sums do not hold 'loss'")
    gradient = jax.jit(jax.grad(lambda outputs: task.loss(outputs, targets)[0]))(outputs)
    finite = all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient))
    expect(finite, "the gradient of the loss in the outputs is not finite")
    metrics = task.metrics(_host(sums))
    expect(next(iter(metrics)) == "loss", f"metrics must begin with 'loss', got {list(metrics)}")
    expect(all(isinstance(x, float) for x in metrics.values()), "metrics are not all floats")
    close = bool(np.isclose(_told(metrics), float(loss), rtol=1e-4, atol=1e-5))
    expect(close, f"the loss is {float(loss)}, the metrics tell {_told(metrics)}")
    # Halves add up to the whole, and what has no weight does not count.
    half = size // 2
    parts = [
        loss_of(*jax.tree.map(lambda x, rows=rows: x[rows], (outputs, targets)))[1]
        for rows in (slice(half), slice(half, None))
    ]
    _expect_close(_added(*parts), sums, "sums of two halves are not those of the whole")
    weights = (jnp.arange(size) < half).astype(jnp.float32)
    spoiled = jax.tree.map(lambda x: x.at[half:].set(jnp.nan), outputs)
    alone, some = loss_of(spoiled, targets, weights)
    _expect_close(some, parts[0], "examples of weight zero count")
    expected = _told(task.metrics(_host(parts[0])))
    close = bool(np.isclose(float(alone), expected, rtol=1e-4))
    expect(close, "the weighted loss is another mean")
    score = task.score(_host(sums))
    expect(
        isinstance(score, Estimate) and np.isfinite(score.value), "score makes no finite Estimate"
    )


def _check_evaluation(task: Task, outputs: Any, targets: Any, size: int) -> None:
    half = size // 2
    weights = (jnp.arange(size) < half).astype(jnp.float32)
    spoiled = jax.tree.map(lambda x: x.at[half:].set(jnp.nan), outputs)
    evaluation = task.evaluation(_host(jax.jit(task.tally)(spoiled, targets, weights)))
    first = jax.tree.map(lambda x: x[:half], (outputs, targets))
    sums = _host(task.loss(*first)[1])
    told, expected = evaluation.metrics, task.metrics(sums)
    for name in expected.keys() & told.keys():
        close = np.isclose(told[name], expected[name], rtol=1e-4, atol=1e-5, equal_nan=True)
        expect(
            bool(close), f"the evaluation tells {name} {told[name]}, the metrics {expected[name]}"
        )
    score = task.score(sums)
    close = bool(np.isclose(evaluation.score.value, score.value, rtol=1e-4))
    expect(close, "its score is another")
    json.dumps(evaluation.as_dict())
    expect(isinstance(evaluation.format_table(), str), "format_table makes no text")


def _told(metrics: Mapping[str, float]) -> float:
    """The loss that is minimised, as the metrics tell it."""
    return metrics["loss"] + metrics.get("regularization", 0.0)


def _host(sums: Mapping[str, Any]) -> dict[str, Any]:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), dict(sums))


def _added(*parts: Mapping[str, Any]) -> Any:
    return jax.tree.map(lambda *x: sum(x), *map(_host, parts))


def _expect_close(found: Any, expected: Any, problem: str) -> None:
    found, expected = _host(found), _host(expected)
    close = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    expect(all(jax.tree.leaves(close)), f"{problem}: {found} and {expected}")
