"""Heads beside that of a task."""

import jax
import jax.numpy as jnp
from flax import nnx

from dnas.nn.layers import Conv, NormMaker
from dnas.tasks.task import Task


class AuxiliaryHead(nnx.Module):
    """A second classifier, on the output of the second reduction cell, for training only.

    Args:
      channels: channels of that output.
      task: what the network is for.
      norm: makes batch normalisations.
      last_norm: whether there is one behind the second convolution; the published networks
        have it for CIFAR, not for ImageNet.
      rngs: random streams of the initialisation.
    """

    def __init__(
        self, channels: int, task: Task, *, norm: NormMaker, last_norm: bool, rngs: nnx.Rngs
    ):
        self.first = Conv(channels, 128, 1)
        self.first_norm = norm(128)
        self.second = Conv(128, 768, 2, padding=0)
        self.last_norm = norm(768) if last_norm else None
        self.classifier = task.head((768,), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of ``[batch, height, width, channels]``, 8x8 or 7x7 as published."""
        for size in x.shape[1:3]:
            if size < 6:
                raise ValueError(
                    f"the auxiliary head needs images of 6x6 or more where it is attached, got "
                    f"{x.shape[1:3]}; train with auxiliary_weight=0"
                )
        x = jax.nn.relu(x)
        for axis in (1, 2):
            # A 5x5 mean at both ends: stride 3 of 8 pixels, or 2 of 7, as published.
            ends = [jnp.take(x, jnp.arange(5) + s, axis) for s in (0, x.shape[axis] - 5)]
            x = jnp.concatenate([e.mean(axis, keepdims=True) for e in ends], axis)
        x = jax.nn.relu(self.first_norm(self.first(x), use_running_average=False))
        x = self.second(x)
        if self.last_norm is not None:
            x = self.last_norm(x, use_running_average=False)
        return self.classifier((jax.nn.relu(x),))
