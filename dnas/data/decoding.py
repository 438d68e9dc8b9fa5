"""Reading many images: threads that decode, and bars that show how far they are."""

import concurrent.futures
import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

# Images a thread reads at a time: enough to make handing out work cheap, few enough to keep all
# threads busy to the end.
_BLOCK = 256

_SHOWN = contextvars.ContextVar("bars", default=True)


@contextlib.contextmanager
def bars(show: bool) -> Iterator[None]:
    """Decides whether what takes long shows a bar; False also holds for contexts within."""
    token = _SHOWN.set(show and _SHOWN.get())
    try:
        yield
    finally:
        _SHOWN.reset(token)


def bar(*arguments: Any, **settings: Any) -> Any:
    """A bar of tqdm that vanishes in the end; none where `bars` says so."""
    from tqdm.auto import tqdm

    return tqdm(*arguments, leave=False, disable=not _SHOWN.get(), **settings)


def in_blocks(work: Callable[[slice], Any], total: int, title: str) -> None:
    """Runs work on blocks of images with all processors, and shows a bar.

    Args:
      work: what to do with the images of a slice; it runs in threads.
      total: number of images.
      title: of the bar.
    """
    blocks = [slice(i, min(i + _BLOCK, total)) for i in range(0, total, _BLOCK)]
    # Two threads a processor: one decodes while the other waits for Python's lock.
    threads = 2 * (os.cpu_count() or 1)
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        bar(total=total, desc=title, unit="image", delay=1) as shown,
    ):
        for block, _ in zip(blocks, pool.map(work, blocks), strict=True):
            shown.update(block.stop - block.start)


def read_all(
    read: Callable[[np.ndarray], dict[str, np.ndarray]],
    indices: np.ndarray,
    examples: Mapping[str, jax.ShapeDtypeStruct],
    title: str,
) -> dict[str, np.ndarray]:
    """Many examples of a source by its `read`, see `dnas.data.dataset.Source.load`."""
    arrays = {name: np.empty((len(indices), *x.shape), x.dtype) for name, x in examples.items()}

    def fill(block: slice) -> None:
        for name, values in read(indices[block]).items():
            arrays[name][block] = values

    in_blocks(fill, len(indices), title)
    return arrays
