"""Cells of equal shape, stacked and scanned."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import lax

from dnas.nn.kernels.norm import STATISTICS

# What the backward pass does not compute again: small, and each a pass over an operation's outputs.
_SAVED = jax.checkpoint_policies.save_only_these_names(STATISTICS)


class Stack(nnx.Module):
    """Modules of one shape whose variables are stacked, applied one after another by a scan.

    A scanned body compiles once, however many cells there are.

    Args:
      make: builds one module from an `nnx.Rngs`.
      length: how many.
      rngs: source of the initial weights; each module gets its own.
      remat: recompute a cell's inside in the backward pass rather than keep it: one more
        forward pass for a fraction of the memory.
    """

    def __init__(
        self,
        make: Callable[[nnx.Rngs], nnx.Module],
        length: int,
        *,
        rngs: nnx.Rngs,
        remat: bool = False,
    ):
        keys = jax.random.split(rngs.params(), length)
        self.cells = nnx.merge(*jax.vmap(lambda key: nnx.split(make(nnx.Rngs(key))))(keys))
        self.length, self.remat = length, remat

    def __call__(
        self, body: Callable[[Any, Any, Any], Any], carry: Any, xs: Any, *, update: bool
    ) -> Any:
        """Folds ``carry = body(cell, carry, x)`` over the cells.

        Args:
          body: a pure function of its arguments but for the cell's running averages.
          carry: a pytree; with more than one cell, the body keeps its shapes and dtypes.
          xs: a pytree of arrays with one leading entry for each cell.
          update: whether the cells keep the running averages that the body gave them; without,
            nothing is written, as `jax.jit` wants it of a network that it closes over.

        Returns:
          The last carry.
        """
        graph, params, rest = nnx.split(self.cells, nnx.Param, ...)

        def step(carry, inputs):
            params, rest, x = inputs
            cell = nnx.merge(graph, params, rest)
            carry = body(cell, carry, x)
            return carry, nnx.split(cell, nnx.Param, ...)[2] if update else None

        if self.length == 1:  # free to change the carry's shape, too
            step = jax.checkpoint(step, policy=_SAVED) if self.remat else step
            carry, rest = step(carry, jax.tree.map(lambda x: x[0], (params, rest, xs)))
            rest = jax.tree.map(lambda x: x[None], rest)
        else:
            step = jax.checkpoint(step, prevent_cse=False, policy=_SAVED) if self.remat else step
            carry, rest = lax.scan(step, carry, (params, rest, xs), length=self.length)
        if update:
            nnx.update(self.cells, rest)
        return carry
