"""What a search space is: tables of decisions, and what is built from them.

A space is a frozen, hashable description without arrays. Its decisions say which choices
there are; `alphas` and `mix` are dictionaries with one array ``[rows, options]`` for each
table of decisions. Alphas are logits, a mix holds the weights that a relaxation made of them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dnas.genotype import Genotype
from dnas.tasks.task import Task

Alphas = dict[str, jax.Array]
Mix = dict[str, jax.Array]


class Traits(NamedTuple):
    """What an option is, whatever it is called; the defaults are those of any function.

    Attributes:
      identity: it hands on what it gets: a skip connection (at the least, where its stride is one).
      zero: it hands on nothing: no connection.
      weights: it has weights of its own, those of a normalisation aside (where its stride is one).
    """

    identity: bool = False
    zero: bool = False
    weights: bool = True

    @property
    def idle(self) -> bool:
        """Whether it computes nothing."""
        return self.identity or self.zero


class Decision(NamedTuple):
    """One table of architecture parameters.

    Where options are operations, it is a `dnas.nn.operations.Operations`, which knows their traits;
    where they are only weighed, a `Weighing`.

    Attributes:
      part: the part of the genotype that it decides, by name: ``'normal'`` for normal cells.
      rows: what is decided, by name: ``'0->2'`` for an edge of a cell, for instance.
      options: the candidates of every row, by name: ``'skip_connect'``, ...
    """

    part: str
    rows: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def chooses(self) -> bool:
        """Whether the genotype takes one of the options in each row."""
        return True

    @property
    def traits(self) -> tuple[Traits, ...]:
        """What each option is; nothing in particular where options are no operations."""
        return (Traits(),) * len(self.options)


class Weighing(Decision):
    """A table whose options are weighed, and none is chosen: the edges that lead to a node."""

    __slots__ = ()

    @property
    def chooses(self) -> bool:
        """The genotype names none of them."""
        return False


class Mixing(NamedTuple):
    """How a supernet mixes its candidates; discrete networks do not depend on it.

    Attributes:
      partial: only the first ``1 / partial`` of a node's channels pass the operations; the others
        go around them, and both are shuffled (PC-DARTS; Xu et al., 2020).
      edge_normalization: the edges that lead to one node have weights, too (PC-DARTS). There is a
        further table for each node with more than one: ``'cell.3'`` with the row ``'3'`` and the
        options ``'0->3'``, ``'1->3'``, ``'2->3'``.
      auxiliary_skip: every edge has one more skip connection, outside of the mix; its weight
        is an argument of the call (DARTS-; Chu et al., 2021).
      single_path: only the option of the largest weight is computed on each edge, forward and
        backward; for relaxations with one-hot samples (GDAS; Dong and Yang, 2019).
    """

    partial: int = 1
    edge_normalization: bool = False
    auxiliary_skip: bool = False
    single_path: bool = False


PLAIN = Mixing()


class Site(NamedTuple):
    """Equal cells of a network.

    Attributes:
      part: what the space calls this kind of cell.
      channels: of every node.
      size: height and width of the nodes behind the inputs.
      cells: number of such cells.
      inputs: number of input nodes.
      stride: of the edges that leave an input node.
    """

    part: str
    channels: int
    size: tuple[int, int]
    cells: int
    inputs: int = 1
    stride: int = 1


class NetworkOutput(NamedTuple):
    """What a discrete network returns.

    Attributes:
      logits: what the task's head says, ``[batch, classes]`` in classification.
      auxiliary: what an auxiliary head says, likewise; None where there is none
        (no such head was asked for, or the network is not training).
    """

    logits: jax.Array
    auxiliary: jax.Array | None = None


@runtime_checkable
class SearchSpace(Protocol):
    """What every search space offers; implementations are frozen dataclasses.

    What only some spaces can do is in `dnas.capabilities`. `dnas.testing.check_space` checks a
    space of one's own.

    Attributes:
      name: the space's name in genotypes and configs.
      decisions: the tables of decisions, by name.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: str

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The tables of decisions, by name."""
        ...

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network of all candidates: ``net(inputs, mix, key=None, *, ...) -> outputs``.

        Inputs are those of the task, outputs those of its head; `key` feeds candidates that are
        random. The supernet keeps no running statistics: it is a function of its arguments.
        A table of the mix is ``[rows, options]``, shared by all cells, or
        ``[layers, rows, options]`` with weights for every cell of its own. Supernets with mixed
        edges take two scalars more, which may be traced: `auxiliary_skip`, the weight of the
        auxiliary skip connections (see `Mixing`; None leaves them out), and `skip_dropout`, the
        probability that an element behind an identity skip is dropped (P-DARTS; Chen et al.,
        2019), which needs a key.
        """
        ...

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> nnx.Module:
        """The network of one genotype: ``net(inputs, train=False, key=None, drop_path=None)``.

        Returns a `NetworkOutput`. With ``train=True`` batch normalisation uses and updates
        batch statistics, and `drop_path` is the probability that a path is dropped; `key` feeds
        that and operations that are random.
        """
        ...

    def discretize(self, mix: Mapping[str, ArrayLike]) -> Genotype:
        """The genotype that these mixing weights stand for, by the space's own rules."""
        ...

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A genotype drawn uniformly from the space."""
        ...

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError, naming the culprit, unless the genotype belongs to this space."""


def initial_alphas(
    decisions: Mapping[str, Decision], key: jax.Array, scale: float = 1e-3
) -> Alphas:
    """Normal logits of standard deviation `scale`, as published (Liu et al., 2019)."""
    keys = jax.random.split(key, len(decisions))
    return {
        name: scale * jax.random.normal(k, (len(d.rows), len(d.options)), jnp.float32)
        for k, (name, d) in zip(keys, decisions.items(), strict=True)
    }


def identities(space: SearchSpace, part: str) -> tuple[str, ...]:
    """The names of the skip connections in a part of the genotype."""
    return tuple(
        dict.fromkeys(
            option
            for decision in space.decisions.values()
            for option, traits in zip(decision.options, decision.traits, strict=True)
            if traits.identity and decision.part == part
        )
    )


def first_part(space: SearchSpace) -> str:
    """The first part of the genotype: normal cells in the DARTS space."""
    return next(iter(space.decisions.values())).part
