"""The recurrent cells of ENAS (Pham et al., 2018) and DARTS (Liu et al., 2019).

A cell reads one input of a sequence and its own last output. Each of its nodes takes one earlier
node, through one activation and a highway gate; the output is a mean of nodes. Networks carry the
output from one window of a text to the next: see `Recurrent.initial_carry`.

Compared in float64 with the published definitions in NumPy (tests/parity), discrete and mixed
cells agree to 1e-11, gradients to 1e-4 of central differences. Numbers of parameters are the
published ones.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dnas import checks, discretize, edges
from dnas.genotype import Genotype
from dnas.nn.initial import initialise
from dnas.nn.supernet.weights import rows
from dnas.space import Decision, Traits
from dnas.spaces import published, recurrent_networks
from dnas.spaces.recurrent_networks import ACTIVATIONS, NONE
from dnas.spaces.validation import check_choices, check_counts, check_headless, check_tokens
from dnas.tasks.task import Task

PART = "recurrent"
OPERATIONS = (NONE, *ACTIVATIONS)
AVERAGES = ("all", "leaves")
DROPOUTS = ("word_dropout", "input_dropout", "cell_dropout", "hidden_dropout", "output_dropout")


class Activations(Decision):
    """A table of decisions whose options are activations: each has a matrix but ``'none'``."""

    __slots__ = ()

    @property
    def traits(self) -> tuple[Traits, ...]:
        """What each option is."""
        return tuple(Traits(zero=o == NONE, weights=o != NONE) for o in self.options)


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """The space of recurrent cells.

    Dropout masks are those of variational dropout: drawn once for each window of a sequence, and
    the same at all of its times (Gal and Ghahramani, 2016). The defaults are those that DARTS
    searches with.

    Attributes:
      channels: width of the embedding, of every node, and of the carry.
      nodes: nodes of a cell beside node 0, which joins the input and the last output.
      operations: candidates on every edge.
      average: of which nodes the output is the mean: ``'all'``, as in DARTS, or ``'leaves'``, those
        that no other node takes, as in ENAS. Supernets average all.
      word_dropout: share of the words that are left out wherever they stand in a batch, in the
        networks of genotypes; supernets leave out none.
      input_dropout: share of the embedding's elements that are dropped.
      cell_dropout: share of elements that are dropped where the embedding enters the cell.
      hidden_dropout: share of elements of the last output and of every node that are dropped where
        a matrix reads them.
      output_dropout: share of elements of the cell's outputs that are dropped.
    """

    channels: int = 300
    nodes: int = 8
    operations: tuple[str, ...] = OPERATIONS
    average: str = "all"
    word_dropout: float = 0.0
    input_dropout: float = 0.2
    cell_dropout: float = 0.75
    hidden_dropout: float = 0.25
    output_dropout: float = 0.75

    name = "recurrent"

    def __post_init__(self):
        check_counts(self, "channels", "nodes")
        _check_operations(self.operations)
        if self.average not in AVERAGES:
            raise ValueError(f"average={checks.shown(self.average)}: expected one of {AVERAGES}")
        for name in DROPOUTS:
            checks.fraction(name, getattr(self, name))

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """One table: an activation for each pair of nodes, 36 rows of 5 options as published."""
        return {PART: Activations(PART, rows(1, self.nodes), self.operations)}

    @property
    def layers(self) -> Mapping[str, int]:
        """The single cell."""
        return {PART: 1}

    def initial_carry(self, batch_size: int) -> jax.Array:
        """The last output at the beginning of a text: zeros ``[batch, channels]``."""
        return jnp.zeros((batch_size, self.channels), jnp.float32)

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network of all candidates: ``net((tokens, carry), mix, key) -> (outputs, carry)``.

        Tokens are int ``[batch, time]``; outputs are those of the task's head. Without a key
        nothing is dropped.
        """
        if self.average != "all":
            raise ValueError(
                f"average={self.average!r}: expected 'all' in a search, since a mixture has no "
                "leaves"
            )
        check_tokens(self.name, task)
        return initialise(recurrent_networks.Supernet(self, task, rngs=rngs), rngs)

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> nnx.Module:
        """The network of one genotype: ``net((tokens, carry), train, key) -> (output, carry)``.

        The output is a `dnas.space.NetworkOutput` with the outputs of the task's head.
        """
        check_headless(self.name, auxiliary)
        self.validate(genotype)
        check_tokens(self.name, task)
        return initialise(recurrent_networks.Network(self, genotype, task, rngs=rngs), rngs)

    def discretize(self, mix: Mapping[str, ArrayLike]) -> Genotype:
        """Every node keeps its strongest incoming edge; 'none' does not count."""
        chosen = discretize.top_edges(mix[PART], self.decisions[PART], keep=1)
        return Genotype.create(self.name, {PART: chosen})

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Every node takes any earlier node and any activation but 'none'."""
        options = [name for name in self.operations if name != NONE]
        chosen = {
            edges.name(int(rng.integers(node)), node): str(rng.choice(options))
            for node in range(1, self.nodes + 1)
        }
        return Genotype.create(self.name, {PART: chosen})

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError unless every node has one input and a candidate on it."""
        check_choices(genotype, self.name, (PART,))
        allowed = [name for name in self.operations if name != NONE]
        found = genotype[PART]
        for row, option in found.items():
            if row not in self.decisions[PART].rows:
                raise ValueError(f"{PART} has an edge {row!r}; its nodes are 0 to {self.nodes}")
            if option not in allowed:
                raise ValueError(
                    f"edge {row!r} of {PART} has the operation {checks.shown(option)}; expected "
                    f"one of {', '.join(allowed)}"
                )
        targets = [edges.ends(row)[1] for row in found]
        for node in range(1, self.nodes + 1):
            if targets.count(node) != 1:
                raise ValueError(
                    f"node {node} of {PART} has {targets.count(node)} inputs, expected 1"
                )

    def parse(self, text: str) -> Genotype:
        """Reads ``Genotype(recurrent=[('sigmoid', 0), ...], concat=range(1, 9))``.

        Raises:
          ValueError: the text is malformed, or its cell is none of the space's; also where its
            output is another mean of nodes than `average` says.
        """
        genotype, output = published.parse_recurrent(text)
        self.validate(genotype)
        if output != self.output(genotype):
            raise ValueError(
                f"concat must be {self.output(genotype)}, since average={self.average!r}; got "
                f"{checks.shown(output)}: one of {AVERAGES} may fit"
            )
        return genotype

    def format(self, genotype: Genotype) -> str:
        """Writes that form."""
        self.validate(genotype)
        return published.format_recurrent(genotype, self.output(genotype))

    def output(self, genotype: Genotype) -> list[int]:
        """The nodes whose mean is the output of the genotype's cell."""
        taken = {edges.ends(row)[0] for row in genotype[PART]} if self.average == "leaves" else ()
        return [node for node in range(1, self.nodes + 1) if node not in taken]


def _check_operations(operations: tuple[str, ...]) -> None:
    good = isinstance(operations, tuple) and all(isinstance(o, str) for o in operations)
    if not good or not set(operations) <= set(OPERATIONS):
        raise ValueError(
            f"operations={checks.shown(operations)}: expected a tuple of some of {OPERATIONS}"
        )
    if len(set(operations)) < len(operations):
        raise ValueError(f"operations={operations}: expected each only once")
    if not set(operations) - {NONE}:
        raise ValueError(f"operations={operations}: expected one beside 'none'")
