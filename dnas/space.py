"""What a search space is: tables of decisions, and what is built from them.

A space is a frozen, hashable description without arrays. Its decisions say which choices
there are; `alphas` and `mix` are dictionaries with one array ``[rows, options]`` for each
table of decisions. Alphas are logits, a mix holds the weights that a relaxation made of them.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnas.genotype import Genotype

Alphas = dict[str, jax.Array]
Mix = dict[str, jax.Array]


class Decision(NamedTuple):
    """One table of architecture parameters.

    Attributes:
      rows: what is decided, by name: ``'0->2'`` for an edge of a cell, for instance.
      options: the candidates of every row, by name: ``'skip_connect'``, ...
    """

    rows: tuple[str, ...]
    options: tuple[str, ...]


class Task(NamedTuple):
    """What a network is built for.

    Attributes:
      image_shape: height, width and channels of one image.
      classes: number of classes.
    """

    image_shape: tuple[int, int, int]
    classes: int


class NetworkOutput(NamedTuple):
    """What a discrete network returns.

    Attributes:
      logits: ``[batch, classes]``.
      auxiliary: logits of the auxiliary head, ``[batch, classes]``; None where there is none
        (no such head was asked for, or the network is not training).
    """

    logits: jax.Array
    auxiliary: jax.Array | None = None


@runtime_checkable
class SearchSpace(Protocol):
    """What every search space offers; implementations are frozen dataclasses.

    Attributes:
      name: the space's name in genotypes and configs.
      decisions: the tables of decisions, by name.
    """

    name: str

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The tables of decisions, by name."""

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network of all candidates: ``net(images, mix, key=None) -> logits``.

        Images are float ``[batch, height, width, channels]``; `key` feeds candidates that are
        random. The supernet keeps no running statistics: it is a function of its arguments.
        """

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> nnx.Module:
        """The network of one genotype: ``net(images, train=False, key=None, drop_path=None)``.

        Returns a `NetworkOutput`. With ``train=True`` batch normalisation uses and updates
        batch statistics, and `drop_path` is the probability that a path is dropped; `key` feeds
        that and operations that are random.
        """

    def discretize(self, mix: Mapping[str, jax.Array]) -> Genotype:
        """The genotype that these mixing weights stand for, by the space's own rules."""

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A genotype drawn uniformly from the space."""

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError, naming the culprit, unless the genotype belongs to this space."""

    def parse(self, text: str) -> Genotype:
        """Reads the text form in which the space's authors publish architectures."""

    def format(self, genotype: Genotype) -> str:
        """Writes that form."""


def initial_alphas(
    decisions: Mapping[str, Decision], key: jax.Array, scale: float = 1e-3
) -> Alphas:
    """Normal logits of standard deviation `scale`, as published (Liu et al., 2019)."""
    keys = jax.random.split(key, len(decisions))
    return {
        name: scale * jax.random.normal(k, (len(d.rows), len(d.options)), jnp.float32)
        for k, (name, d) in zip(keys, decisions.items(), strict=True)
    }
