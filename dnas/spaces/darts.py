"""The DARTS space (Liu, Simonyan and Yang, 2019) and its subsets S1-S4 (Zela et al., 2020).

A chain of normal cells with reduction cells at one and two thirds of its depth. A cell sees the
outputs of the two cells before it; each of its nodes keeps two incoming edges.
"""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from dnas import discretize, edges
from dnas.genotype import Genotype
from dnas.nn import cell as cells
from dnas.nn.initial import initialise
from dnas.space import Decision, Task
from dnas.spaces import darts_networks, published, robust_darts
from dnas.spaces.validation import check_candidates, check_choices, check_positive

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

Candidates = tuple[tuple[str, ...], ...]


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
    """

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    stem_multiplier: int = 3
    stem: str = "cifar"
    operations: tuple[str, ...] = OPERATIONS
    normal: Candidates | None = None
    reduce: Candidates | None = None

    name = "darts"

    def __post_init__(self):
        check_positive(self, "channels", "cells", "nodes", "stem_multiplier")
        if self.channels % 2:
            raise ValueError(
                f"channels={self.channels}: factorized reductions halve the channels; "
                "expected an even number"
            )
        if self.stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem={self.stem!r}: expected 'cifar' or 'imagenet'")
        for part in PARTS:
            candidates = self.candidates(part)
            if len(candidates) != len(self.rows):
                raise ValueError(
                    f"{part} names candidates for {len(candidates)} edges; a cell of "
                    f"{self.nodes} nodes has {len(self.rows)}"
                )
            for row, edge in zip(self.rows, candidates, strict=True):
                check_candidates(f"edge {row!r} of {part}", edge)

    @classmethod
    def subset(cls, name: str, **fields) -> "DARTS":
        """One of the subsets of RobustDARTS: ``'s1'`` to ``'s4'``.

        Args:
          name: which one.
          **fields: other attributes of the space.

        Raises:
          ValueError: there is no such subset.
        """
        if name not in robust_darts.SPACES:
            raise ValueError(f"no subset {name!r}; expected one of {sorted(robust_darts.SPACES)}")
        parts = robust_darts.SPACES[name]
        distinct = {edge for part in PARTS for edge in parts[part]}
        if len(distinct) == 1:  # the same on every edge, however many there are
            return cls(operations=distinct.pop(), **fields)
        return cls(**parts, **fields)

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of a cell's edges."""
        return cells.rows(2, self.nodes)

    def candidates(self, part: str) -> Candidates:
        """For each edge of that kind of cell, the names of its candidates."""
        own = {"normal": self.normal, "reduce": self.reduce}[part]
        return (self.operations,) * len(self.rows) if own is None else own

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """One table for each kind of cell; one for each edge where candidates differ."""
        tables = {}
        for part in PARTS:
            candidates = self.candidates(part)
            if len(set(candidates)) == 1:
                tables[part] = Decision(self.rows, candidates[0])
            else:
                for row, edge in zip(self.rows, candidates, strict=True):
                    tables[f"{part}.{row}"] = Decision((row,), edge)
        return tables

    def tables(
        self, mix: Mapping[str, jax.Array], part: str
    ) -> list[tuple[tuple[str, ...], tuple[str, ...], jax.Array]]:
        """Rows, options and weights of the tables that hold that kind of cell's edges."""
        return [
            (*decision, mix[name])
            for name, decision in self.decisions.items()
            if name.split(".")[0] == part
        ]

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network of all candidates."""
        return initialise(darts_networks.Supernet(self, task, rngs=rngs), rngs)

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> nnx.Module:
        """The network of one genotype, with an auxiliary head behind two thirds of its cells."""
        self.validate(genotype)
        network = darts_networks.Network(self, genotype, task, auxiliary=auxiliary, rngs=rngs)
        return initialise(network, rngs)

    def discretize(self, mix: Mapping[str, jax.Array]) -> Genotype:
        """Every node keeps its two strongest incoming edges; 'none' does not count."""
        choices = {}
        for part in PARTS:
            choosable = [
                row
                for rows, options, weights in self.tables(mix, part)
                for row in discretize.rows(weights, Decision(rows, options))
            ]
            choices[part] = discretize.top_edges_of(choosable, KEEP)
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
                    choices[part][row] = str(rng.choice([o for o in options[row] if o != "none"]))
        return Genotype.create(self.name, choices)

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError unless every node has two inputs and candidates on them."""
        check_choices(genotype, self.name, PARTS)
        for part in PARTS:
            options = dict(zip(self.rows, self.candidates(part), strict=True))
            for row, option in genotype[part].items():
                if row not in options:
                    raise ValueError(f"{part} has an edge {row!r}; expected some of {self.rows}")
                allowed = tuple(o for o in options[row] if o != "none")
                if option not in allowed:
                    raise ValueError(
                        f"edge {row!r} of {part} has the operation {option!r}; "
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
