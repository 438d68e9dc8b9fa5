"""Partial channels: most of a node's channels go around its operations (Xu et al., 2020)."""

import jax
import jax.numpy as jnp


def split(x: jax.Array, parts: int) -> tuple[jax.Array, jax.Array]:
    """The first ``1 / parts`` of the channels, which pass the operations, and the others."""
    operated = x.shape[-1] // parts
    return x[..., :operated], x[..., operated:]


def bypass(x: jax.Array, stride: int) -> jax.Array:
    """The way around an operation: as it is, or the maximum of each 2x2 window at stride 2.

    At an odd end the maximum is that of what is left, since operations round sizes up.
    """
    if stride == 1:
        return x
    _, height, width, _ = x.shape
    pads = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def join(operated: jax.Array, bypassed: jax.Array, parts: int) -> jax.Array:
    """Both kinds of channels as one, shuffled in `parts` groups.

    Channel ``i`` of group ``g`` goes to position ``i * parts + g``, so that the channels of the
    next operations' slice come from all groups.
    """
    x = jnp.concatenate([operated, bypassed], -1)
    return x.reshape(*x.shape[:-1], parts, -1).swapaxes(-1, -2).reshape(x.shape)
