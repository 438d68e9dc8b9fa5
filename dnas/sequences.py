"""Networks that read long sequences in windows, and carry a state from one to the next.

A space whose networks do so is `Carrying`. Its supernets and networks read ``(inputs, carry)`` in
place of ``inputs``, and return ``(outputs, carry)``. Gradients end where a window begins (truncated
back-propagation; Werbos, 1990). A batch says by ``'reset'``, bool ``[batch]``, which of its rows
begin anew. All others' networks carry ``()``, and nothing here changes what they compute.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

RESET = "reset"  # the array of a batch
Carry = Any  # a pytree of arrays [batch, ...]; () where nothing is carried


@runtime_checkable
class Carrying(Protocol):
    """What has networks with a carry, or is one."""

    def initial_carry(self, batch_size: int) -> Carry:
        """The carry with which a sequence begins, arrays ``[batch, ...]``."""
        ...


def initial_carry(owner: Any, batch_size: int) -> Carry:
    """The carry with which a sequence begins; ``()`` where nothing is carried.

    Args:
      owner: a space or a network.
      batch_size: number of rows.
    """
    return owner.initial_carry(batch_size) if isinstance(owner, Carrying) else ()


def begun(carry: Carry, initial: Carry, batch: Mapping[str, jax.Array]) -> Carry:
    """The carry with which the networks read a batch: the initial one in rows that begin anew.

    Args:
      carry: as the batch before left it.
      initial: with which a sequence begins.
      batch: with its array ``'reset'``, where there is something to carry.
    """

    def begin(old, new):
        anew = batch[RESET].reshape(-1, *(1,) * (old.ndim - 1))
        return jnp.where(anew, new, old)

    return jax.tree.map(begin, carry, initial)


def read(network: Callable[..., Any], inputs: Any, carry: Carry, *args: Any, **kwargs: Any) -> Any:
    """Calls a network with or without a carry: ``(outputs, carry)``.

    Args:
      network: the network.
      inputs: its inputs.
      carry: with which it reads them; ``()`` for a network that carries nothing.
      *args: its further arguments, such as a mix.
      **kwargs: likewise.
    """
    if not jax.tree.leaves(carry):
        return network(inputs, *args, **kwargs), carry
    return network((inputs, carry), *args, **kwargs)


def check_alone(space: Any, parallel: str) -> None:
    """Raises ValueError where a space's networks carry something over several devices."""
    name = space.name
    if parallel != "none" and isinstance(space, Carrying):
        raise ValueError(
            f"parallel={parallel!r}: expected 'none', since networks of the space {name!r} "
            "carry a state from batch to batch, which is not divided among devices"
        )
