"""How much memory there is, and whether weights fit into it."""

import os

import jax

_COPIES = 3  # weights, gradient, momentum
_BYTES = 4  # of a float32


def available() -> int:
    """Bytes of memory of the device; of the host where the device is its processor."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_weights(network: str, count: int) -> None:
    """Raises ValueError where the weights of a network cannot be trained for want of memory.

    Args:
      network: what it is, for the message.
      count: number of its weights. With gradient and momentum they are the least that a step
        needs; what it needs for examples and activations comes on top.
    """
    needed, there = _COPIES * _BYTES * count, available()
    if needed > there:
        raise ValueError(
            f"the {network} has {count:.3g} weights, which with gradient and momentum take "
            f"{needed / 2**30:,.0f} GiB; there are {there / 2**30:,.0f} GiB of memory: take fewer "
            "channels, cells, nodes or stages"
        )
