"""Feeds: batches on the device for every step of a run.

Which images a step sees is a pure function of the run's key and the step's number (see
`order`), so a feed has no state to save: a resumed run asks for the next step. A set that fits
lies on the device and batches are gathered there; a larger one streams from disk, read and
transferred ahead of the steps. Both give the same batches, bit for bit: order and gathering are
compiled functions of their own before the step, so that one step serves both.
"""

import contextlib
import functools
import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from dnas.data.dataset import DEVICE_BUDGET, Split

Batch = dict[str, jax.Array]
Read = Generator[tuple[Batch, ...], None, None]  # a chunk of every part
Chunks = Generator[tuple[tuple[Batch, ...], int], None, None]


class Closable(Protocol):
    """An iterator of batches whose `close` ends the threads behind it."""

    def __iter__(self) -> Iterator[Batch]:
        """Itself."""
        ...

    def __next__(self) -> Batch:
        """The next chunk."""
        ...

    def close(self) -> None:
        """Ends the threads."""


@functools.partial(jax.jit, static_argnames="n")
def order(key: jax.Array, part: int, epoch: int, n: int) -> jax.Array:
    """The permutation, int32 ``[n]``, in which a part's images come in one epoch.

    Args:
      key: the run's key.
      part: number of the part, so that parts of one size are not shuffled alike.
      epoch: how many times the part was gone through before.
      n: number of images in the part.
    """
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, part), epoch), n)


def make_feed(
    parts: Sequence[Split], batch_size: int, key: jax.Array, device_budget: int = DEVICE_BUDGET
) -> "Feed":
    """The feed of one or several parts of a train set.

    Args:
      parts: for a search the weights' and the architecture's part; else one split.
      batch_size: images of every part in a step.
      key: the run's key (or one folded from it); it decides the order of the images.
      device_budget: bytes of uint8 images, of all parts together, up to which they are put on
        the device; larger ones stream.

    Returns:
      A `DeviceFeed` or a `StreamFeed`.

    Raises:
      ValueError: a part has fewer images than a batch, or `batch_size` is not positive.
    """
    small = sum(part.nbytes for part in parts) <= device_budget
    return (DeviceFeed if small else StreamFeed)(parts, batch_size, key)


class Feed:
    """What both feeds share; see `make_feed`.

    Attributes:
      parts: the parts.
      batch_size: images of every part in a step.
      steps_per_epoch: whole batches in the first part. Other parts go through epochs of their
        own; the images left over after the last whole batch are others in every epoch.
    """

    def __init__(self, parts: Sequence[Any], batch_size: int, key: jax.Array):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        for number, part in enumerate(parts):
            if len(part) < batch_size:
                raise ValueError(
                    f"batch_size {batch_size} is larger than part {number} of the train set, "
                    f"which has {len(part)} images: lower batch_size, or use more images"
                )
        self.parts = tuple(parts)
        self.batch_size = batch_size
        self.steps_per_epoch = len(parts[0]) // batch_size
        self._key = key
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def chunks(self, start: int, stop: int, size: int) -> Chunks:
        """The batches of the steps ``start..stop-1``, in chunks of `size` steps.

        Args:
          start: number of the first step, counted over the whole run.
          stop: number of the step after the last.
          size: steps in a chunk.

        Yields:
          A tuple with, for every part, its arrays ``[size, batch, ...]`` by name on the
          device, and how many of its steps count. Shapes are always
          the same: a chunk that has fewer steps repeats the last of them.

        Raises:
          ValueError: `size` is smaller than 1 or `start` negative.
        """
        if size < 1 or start < 0:
            raise ValueError(f"expected size >= 1 and start >= 0, got {size} and {start}")
        rows = tuple(self._rows(part, start, stop) for part in range(len(self.parts)))
        counts = [min(size, stop - first) for first in range(start, stop, size)]
        with contextlib.closing(self._read(rows, size)) as chunks:
            yield from zip(chunks, counts, strict=True)

    def validation(self, examples: int | None = None) -> list[Batch]:
        """Whole batches of the second part, evenly spread over it: to compare networks on.

        Args:
          examples: so many at most, but one batch at least; by default all that fill whole batches.
        """
        half = self.parts[1]
        count = self._whole_batches(examples) * self.batch_size
        rows = half.indices[np.linspace(0, len(half) - 1, count).astype(np.int64)]
        some = Split(half.source, rows)
        return [batch for batch, _ in evaluation_batches(some, self.batch_size)]

    def _whole_batches(self, examples: int | None) -> int:
        """How many batches `validation` has."""
        length = len(self.parts[1])
        return max(1, min(examples or length, length) // self.batch_size)

    def _read(self, rows: tuple[np.ndarray, ...], size: int) -> Read:
        """Chunks of the images at `rows` of every part, each int32 ``[steps, batch]``."""
        raise NotImplementedError

    def _rows(self, part: int, start: int, stop: int) -> np.ndarray:
        """Where in the part the images of some steps are, int32 ``[steps, batch]``."""
        per_epoch = len(self.parts[part]) // self.batch_size
        steps = np.arange(start, stop)
        rows = np.empty((len(steps), self.batch_size), np.int32)
        for epoch in np.unique(steps // per_epoch):
            here = steps // per_epoch == epoch
            batches = self._order(part, int(epoch))[: per_epoch * self.batch_size]
            rows[here] = batches.reshape(per_epoch, -1)[steps[here] % per_epoch]
        return rows

    def _order(self, part: int, epoch: int) -> np.ndarray:
        """The order of one epoch; the latest is kept. Threads may ask for different ones."""
        known = self._orders.get(part, None)
        if known is not None and known[0] == epoch:
            return known[1]
        found = np.asarray(order(self._key, part, epoch, len(self.parts[part])))
        self._orders[part] = (epoch, found)
        return found


class DeviceFeed(Feed):
    """Images lie on the device as uint8 and batches are gathered there."""

    def __init__(self, parts: Sequence[Split], batch_size: int, key: jax.Array):
        super().__init__(parts, batch_size, key)
        # One row an image: XLA's CPU gathers rows ten times as fast as [H, W, C] blocks.
        self._arrays = [
            jax.device_put({n: x.reshape(len(part), -1) for n, x in part.arrays.items()})
            for part in parts
        ]
        self._shapes = [
            tuple((name, x.shape) for name, x in part.examples.items()) for part in parts
        ]

    def _read(self, rows: tuple[np.ndarray, ...], size: int) -> Read:
        for first in range(0, len(rows[0]), size):
            yield tuple(
                _gather(arrays, _fill(some[first : first + size], size), shapes)
                for arrays, some, shapes in zip(self._arrays, rows, self._shapes, strict=True)
            )


class StreamFeed(Feed):
    """Images are read from their source by threads, ahead of the steps, through grain."""

    def _read(self, rows: tuple[np.ndarray, ...], size: int) -> Read:
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(contextlib.closing(_stream(part, some, size)))
                for part, some in zip(self.parts, rows, strict=True)
            ]
            yield from zip(*streams, strict=True)


def evaluation_batches(
    split: Split, batch_size: int, device_budget: int = DEVICE_BUDGET
) -> Iterator[tuple[Batch, jax.Array]]:
    """All images of a split once, in order, in batches of one shape.

    Args:
      split: the images.
      batch_size: images in a batch; may exceed the split.
      device_budget: bytes of uint8 images up to which a split is kept in memory after it was
        read; a larger one is read anew by every call.

    Yields:
      The arrays ``[batch, ...]`` by name, and weights float32 ``[batch]``: 1, but 0 for the
      examples that fill up the last batch.

    Raises:
      ValueError: `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    positions = np.arange(-(-len(split) // batch_size) * batch_size).reshape(-1, batch_size)
    weights = (positions < len(split)).astype(np.float32)
    rows = np.minimum(positions, len(split) - 1)
    if split.nbytes <= device_budget:
        arrays = split.arrays
        for some, weight in zip(rows, weights, strict=True):
            yield jax.device_put(({name: x[some] for name, x in arrays.items()}, weight))
        return
    with contextlib.closing(_stream(split, rows, size=1)) as batches:
        for batch, weight in zip(batches, weights, strict=True):
            yield jax.tree.map(lambda x: x[0], batch), jax.device_put(weight)


@functools.partial(jax.jit, static_argnames="shapes")
def _gather(
    arrays: Batch, rows: jax.Array, shapes: tuple[tuple[str, tuple[int, ...]], ...]
) -> Batch:
    """Batches out of arrays ``[N, ...]`` on the device, whose rows have these shapes."""
    # The rows are a permutation's: no index needs a check.
    return {
        name: arrays[name].at[rows].get(mode="promise_in_bounds").reshape(*rows.shape, *shape)
        for name, shape in shapes
    }


def _fill(steps: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last step until there are `size`."""
    return np.concatenate([steps, np.repeat(steps[-1:], size - len(steps), axis=0)])


def _stream(split: Split, rows: np.ndarray, size: int) -> Closable:
    """Chunks of `size` batches, read ahead and put on the device.

    Args:
      split: the images.
      rows: int ``[steps, batch]``, which of them.
      size: batches in a chunk.

    Returns:
      An iterator of arrays ``[size, batch, ...]`` by name; its method
      ``close`` ends the threads behind it.
    """
    import grain

    def read(some: np.ndarray) -> dict[str, np.ndarray]:
        return split.source.read(split.indices[some])

    def stack(batches: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {
            name: _fill(np.stack([batch[name] for batch in batches]), size) for name in batches[0]
        }

    threads = min(16, 2 * (os.cpu_count() or 1))
    batches = grain.MapDataset.source(list(rows)).map(read)
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    chunks = batches.to_iter_dataset(ahead).batch(size, batch_fn=stack)
    return iter(
        grain.experimental.device_put(chunks, None, cpu_buffer_size=1, device_buffer_size=1)
    )
