"""The DARTS space (Liu, Simonyan and Yang, 2019) and its subsets S1-S4 (Zela et al., 2020).

A chain of normal cells with reduction cells at one and two thirds of its depth. A cell sees the
outputs of the two cells before it; each of its nodes keeps two incoming edges.

Compared with the published definitions in float64 NumPy (tests/parity), values agree to 2e-5 of
the largest of each array, gradients to 2e-4: supernet, also with partial channels and weights of
edges (PC-DARTS), discrete network with auxiliary head in training and after it, running averages.
Numbers of parameters are the published ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dnas import discretize, edges
from dnas.checks import shown
from dnas.genotype import Genotype
from dnas.nn import operations
from dnas.nn.initial import initialise
from dnas.nn.supernet.weights import Table
from dnas.space import PLAIN, Decision, Mixing, Site
from dnas.spaces import darts_networks, parts, published, robust_darts
from dnas.spaces.validation import (
    check_choices,
    check_counts,
    check_images,
    check_mixing,
    check_part,
)
from dnas.tasks import Segmentation, Task

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
PARTS = ("normal", "reduce")
KEEP = 2  # incoming edges that a node keeps


@dataclasses.dataclass(frozen=True)
class DARTS:
    """The DARTS space.

    Attributes:
      channels: channels of the first cells; every reduction doubles them.
      cells: number of cells.
      nodes: nodes of a cell beside its two inputs.
      stem_multiplier: channels of the stem, in multiples of `channels`.
      stem: ``'cifar'`` keeps the resolution, ``'imagenet'`` divides it by eight.
      operations: candidates on every edge.
      normal: candidates for each edge of normal cells, where they differ; else None.
      reduce: likewise for reduction cells.
      mixing: how the supernet mixes its candidates.
    """

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    stem_multiplier: int = 3
    stem: str = "cifar"
    operations: tuple[str, ...] = OPERATIONS
    normal: parts.Candidates | None = None
    reduce: parts.Candidates | None = None
    mixing: Mixing = PLAIN

    name = "darts"

    def __post_init__(self):
        check_counts(self, "channels", "cells", "nodes", "stem_multiplier")
        if self.channels % 2:
            raise ValueError(
                f"channels={self.channels}: factorized reductions halve the channels; "
                "expected an even number"
            )
        if self.stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem={shown(self.stem)}: expected 'cifar' or 'imagenet'")
        for part in PARTS:
            check_part(self.part(part))
        check_mixing(self.mixing, self.channels, even=True)

    @classmethod
    def subset(cls, name: str, **fields) -> "DARTS":
        """One of the subsets of RobustDARTS: ``'s1'`` to ``'s4'``.

        Args:
          name: which one.
          **fields: other attributes of the space.

        Raises:
          ValueError: there is no such subset.
        """
        if not isinstance(name, str) or name not in robust_darts.SPACES:
            known = ", ".join(sorted(robust_darts.SPACES))
            raise ValueError(f"subset={shown(name)}: expected one of {known}")
        subset = robust_darts.SPACES[name]
        distinct = {edge for part in PARTS for edge in subset[part]}
        if len(distinct) == 1:  # the same on every edge, however many there are
            return cls(operations=distinct.pop(), **fields)
        return cls(**subset, **fields)

    @property
    def reductions(self) -> frozenset[int]:
        """The positions of the reduction cells."""
        return frozenset({self.cells // 3, 2 * self.cells // 3})

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of a cell's edges."""
        return self.part("normal").rows

    def part(self, name: str) -> parts.Part:
        """That kind of cell."""
        own = {"normal": self.normal, "reduce": self.reduce}[name]
        edges_in_all = self.nodes * (self.nodes + 3) // 2
        candidates = (self.operations,) * edges_in_all if own is None else own
        layers = len(self.reductions)
        layers = layers if name == "reduce" else self.cells - layers
        return parts.Part(name, 2, self.nodes, candidates, layers)

    def candidates(self, part: str) -> parts.Candidates:
        """For each edge of that kind of cell, the names of its candidates."""
        return self.part(part).candidates

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """One table for each kind of cell; one for each edge where candidates differ."""
        normal, reduce = (self.part(part).decisions(self.mixing) for part in PARTS)
        return normal | reduce

    @property
    def layers(self) -> Mapping[str, int]:
        """For each table, how many cells are of its kind."""
        return {name: self.part(d.part).layers for name, d in self.decisions.items()}

    def tables(self, mix: Mapping[str, jax.Array], part: str) -> list[Table]:
        """Rows, options and weights of the operations on that kind of cell's edges."""
        return self.part(part).tables(mix)

    def sites(self, task: Task) -> list[Site]:
        """The cells of each run of equal ones."""
        size = parts.halved(task.inputs.shape[:2], 0 if self.stem == "cifar" else 3)
        found = []
        for run in darts_networks.plan(self, (0, 0), False):  # no node has the stem's width
            size = parts.halved(size, int(run.reduction))
            part, stride = ("reduce", 2) if run.reduction else ("normal", 1)
            found.append(Site(part, run.channels, size, run.length, 2, stride))
        return found

    def restrict(self, keep: Mapping[str, Mapping[str, Sequence[str]]]) -> "DARTS":
        """The space in which some edges have fewer candidates: ``{part: {row: candidates}}``."""
        kept = parts.restrict([self.part(part) for part in PARTS], keep)
        return dataclasses.replace(self, **kept)

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network of all candidates."""
        check_images(self.name, task)
        return initialise(darts_networks.Supernet(self, task, rngs=rngs), rngs)

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> nnx.Module:
        """The network of one genotype, with an auxiliary head behind two thirds of its cells."""
        self.validate(genotype)
        check_images(self.name, task)
        if auxiliary and isinstance(task, Segmentation):
            raise ValueError(
                "the auxiliary head of 'darts' sums an image up, so that it cannot tell pixels "
                "apart; leave it off"
            )
        network = darts_networks.Network(self, genotype, task, auxiliary=auxiliary, rngs=rngs)
        return initialise(network, rngs)

    def discretize(self, mix: Mapping[str, ArrayLike]) -> Genotype:
        """Every node keeps its two strongest incoming edges; 'none' does not count."""
        choices = {}
        for part in PARTS:
            every = {name for edge in self.candidates(part) for name in edge}
            missing = every.difference(operations.connections(tuple(every)))
            rows = self.part(part).choosable(mix, self.mixing)
            choices[part] = discretize.top_edges_of(rows, KEEP, missing)
        return Genotype.create(self.name, choices)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Every node takes any two inputs and any operations but 'none'."""
        choices = {}
        for part in PARTS:
            options = dict(zip(self.rows, self.candidates(part), strict=True))
            choices[part] = {}
            for j in range(2, 2 + self.nodes):
                for i in sorted(rng.choice(j, KEEP, replace=False)):
                    row = edges.name(i, j)
                    choices[part][row] = str(rng.choice(operations.connections(options[row])))
        return Genotype.create(self.name, choices)

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError unless every node has two inputs and candidates on them."""
        check_choices(genotype, self.name, PARTS)
        for part in PARTS:
            options = dict(zip(self.rows, self.candidates(part), strict=True))
            for row, option in genotype[part].items():
                if row not in options:
                    raise ValueError(
                        f"{part} has an edge {shown(row)}; expected some of {self.rows}"
                    )
                allowed = operations.connections(options[row])
                if option not in allowed:
                    raise ValueError(
                        f"edge {row!r} of {part} has the operation {shown(option)}; "
                        f"expected one of {allowed}"
                    )
            targets = [edges.ends(row)[1] for row in genotype[part]]
            for j in range(2, 2 + self.nodes):
                if targets.count(j) != KEEP:
                    raise ValueError(
                        f"node {j} of {part} has {targets.count(j)} inputs, expected {KEEP}"
                    )

    def parse(self, text: str) -> Genotype:
        """Reads ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=...)``."""
        genotype = published.parse_darts(text)
        self.validate(genotype)
        return genotype

    def format(self, genotype: Genotype) -> str:
        """Writes that form."""
        self.validate(genotype)
        return published.format_darts(genotype)
