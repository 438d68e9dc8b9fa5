"""How a step is compiled: for one device, or data-parallel over all local ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dnas.checks import shown
from dnas.runtime import programs

KINDS = ("none", "pmap")

# (state, batches, count) -> (state, sums of metrics)
Advance = Callable[[Any, Any, int], tuple[Any, dict[str, jax.Array]]]


def loop(step: Callable[..., tuple[Any, dict[str, jax.Array]]]) -> Advance:
    """A loop of steps over batches that lie on the device, as a function to compile.

    Args:
      step: ``(state, *batches) -> (state, metrics)``.

    Returns:
      ``loop(state, batches, count) -> (state, sums)``; see `Parallel.advance`.
    """
    step = jax.jit(step)  # traced once, for its shapes and for the loop

    def run(state, batches, count):
        def take(i):
            return [
                jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), part)
                for part in batches
            ]

        def body(i, carry):
            state, sums = carry
            state, metrics = step(state, *take(i))
            return state, jax.tree.map(jnp.add, sums, metrics)

        shapes = jax.eval_shape(lambda: step(state, *take(0))[1])
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return lax.fori_loop(0, count, body, (state, zeros))

    return run


@dataclasses.dataclass(frozen=True)
class Parallel:
    """A way to compile; `make` checks and makes it.

    Attributes:
      kind: ``'none'`` for `jax.jit`, ``'pmap'`` for `jax.pmap`.
      devices: number of replicas.
      axis_name: name of their axis, as a step needs it; None where there is one device.
    """

    kind: str
    devices: int
    axis_name: str | None

    def check_batch(self, batch_size: int) -> None:
        """Raises ValueError unless a batch divides evenly among the devices."""
        if batch_size % self.devices:
            raise ValueError(
                f"batch_size={batch_size} does not divide among {self.devices} devices; "
                f"use a multiple of {self.devices}"
            )

    def replicate(self, tree: Any) -> Any:
        """Puts a pytree on every device."""
        if self.kind == "none":
            return tree
        copies = jax.pmap(lambda tree, _: tree, in_axes=(None, 0), devices=self._local())
        return copies(tree, jnp.arange(self.devices))

    def _local(self) -> list:
        return jax.local_devices()[: self.devices]

    def unreplicate(self, tree: Any) -> Any:
        """The first replica of a pytree."""
        return tree if self.kind == "none" else jax.tree.map(lambda x: x[0], tree)

    def advance(self, step: Callable[..., tuple[Any, dict[str, jax.Array]]]) -> Advance:
        """Compiles a step into a loop of steps over batches that lie on the device.

        Args:
          step: ``(state, *batches) -> (state, metrics)``, metrics being float32 scalars equal
            on all replicas.

        Returns:
          ``advance(state, batches, count) -> (state, sums)``: takes the replicated state, which
          is donated, batches with leading axes ``[steps, batch, ...]``, and how many of the
          steps to take; compiles once for all counts. `sums` adds up the steps' metrics.
        """
        if self.kind == "none":
            compiled = programs.once(jax.jit(loop(step), donate_argnums=0))
            return lambda state, batches, count: compiled(state, batches, jnp.int32(count))

        mapped = jax.pmap(
            loop(step),
            self.axis_name,
            in_axes=(0, 0, None),
            donate_argnums=0,
            devices=self._local(),
        )
        mapped = programs.once(mapped, f"devices: {self._local()}")

        def shard(x):
            steps, batch = x.shape[:2]
            split = x.reshape(steps, self.devices, batch // self.devices, *x.shape[2:])
            return jnp.moveaxis(split, 1, 0)

        def advance(state, batches, count):
            state, sums = mapped(state, jax.tree.map(shard, batches), jnp.int32(count))
            return state, jax.tree.map(lambda x: x[0], sums)

        return advance


def make(kind: str = "none", devices: int | None = None) -> Parallel:
    """A way to compile, by name.

    Args:
      kind: ``'none'`` or ``'pmap'``.
      devices: how many local devices ``'pmap'`` takes; by default all.

    Raises:
      ValueError: there is no such kind, or there are not so many devices.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"parallel={shown(kind)}: expected one of {KINDS}")
    if kind == "none":
        return Parallel(kind, 1, None)
    local = jax.local_device_count()
    if devices is not None and not 1 <= devices <= local:
        raise ValueError(f"devices={devices}: this process has {local}")
    return Parallel(kind, devices or local, "replicas")
