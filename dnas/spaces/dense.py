"""Dense networks: how wide each layer is, its activation, its initial weights, its dropout.

The smallest space of the package, and one to begin with where a space of one's own is to be
written. There are four tables of decisions with a row for each layer. A supernet mixes their
options like this:

- Widths share one matrix. A unit weighs as much as the widths that have it (FBNetV2; Wan et al.,
  2020): the first 16 units belong to all of 16, 32 and 64, the last 32 to 64 alone.
- Activations are applied to the same numbers, and their results are summed with weights.
- Each initialiser has a matrix of its own; the weighted sum of matrices is what a layer multiplies
  by.
- Dropouts share their noise: an element that is dropped with probability 0.1 is also dropped with
  0.3. Noise can only harm where alphas are judged, on examples that weights did not see. So
  hypergradients that take the weights as they are prefer none; only what trains weights anew, such
  as short trainings, knows what dropout is good for.

At a mix with a single 1 in each row the supernet is the discrete network.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dnas import checks, discretize
from dnas.genotype import Genotype
from dnas.nn.initial import initialise, uniform
from dnas.nn.layers import dropout
from dnas.space import Decision, Mix, NetworkOutput
from dnas.spaces.validation import check_headless, check_rows
from dnas.tasks import Task

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}
# Half the width of the uniform distribution of initial weights, by numbers of inputs and outputs.
INITIALISERS: Mapping[str, Callable[[int, int], float]] = {
    "lecun_uniform": lambda inputs, outputs: math.sqrt(3 / inputs),  # LeCun et al., 1998
    "glorot_uniform": lambda inputs, outputs: math.sqrt(6 / (inputs + outputs)),  # 2010
    "he_uniform": lambda inputs, outputs: math.sqrt(6 / inputs),  # He et al., 2015
}
PARTS = ("width", "activation", "initialiser", "dropout")


@dataclasses.dataclass(frozen=True)
class Dense:
    """Networks of dense layers.

    Attributes:
      depth: number of layers before the task's head.
      widths: candidates for the number of a layer's units.
      activations: candidates for what follows its affine map.
      initialisers: candidates for the distribution of its initial weights.
      dropouts: candidates for the probability that an output is dropped in training.
    """

    depth: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    initialisers: tuple[str, ...] = tuple(INITIALISERS)
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)

    name = "dense"

    def __post_init__(self):
        checks.whole("depth", self.depth, most=100)
        for field in ("widths", "activations", "initialisers", "dropouts"):
            options = getattr(self, field)
            if not isinstance(options, tuple) or not options:
                raise ValueError(f"{field}={checks.shown(options)}: expected a tuple of candidates")
            if len(set(options)) < len(options):
                raise ValueError(f"{field}={checks.shown(options)}: expected each only once")
        for width in self.widths:
            checks.whole("widths", width, most=65536)
        for drop in self.dropouts:
            checks.fraction("dropouts", drop)
        _check_known("activations", self.activations, ACTIVATIONS)
        _check_known("initialisers", self.initialisers, INITIALISERS)

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(f"layer {number}" for number in range(1, self.depth + 1))

    @property
    def options(self) -> Mapping[str, tuple[Any, ...]]:
        """The candidates of each table, as they are."""
        every = (self.widths, self.activations, self.initialisers, self.dropouts)
        return dict(zip(PARTS, every, strict=True))

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Four tables, with a row for each layer."""
        return {
            part: Decision(part, self.rows, tuple(map(_text, options)))
            for part, options in self.options.items()
        }

    @property
    def layers(self) -> Mapping[str, int]:
        """Every row decides one layer."""
        return dict.fromkeys(PARTS, 1)

    def supernet(self, task: Task, *, rngs: nnx.Rngs) -> "Supernet":
        """The network of all candidates; without a key nothing is dropped."""
        return initialise(Supernet(self, task, rngs=rngs), rngs)

    def network(
        self, genotype: Genotype, task: Task, *, rngs: nnx.Rngs, auxiliary: bool = False
    ) -> "Network":
        """The network of one genotype."""
        check_headless(self.name, auxiliary)
        return initialise(Network(self, genotype, task, rngs=rngs), rngs)

    def discretize(self, mix: Mapping[str, ArrayLike]) -> Genotype:
        """Every layer takes the strongest option of each table."""
        decisions = self.decisions.items()
        return Genotype.create(
            self.name, {part: discretize.argmax(mix[part], table) for part, table in decisions}
        )

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Every layer takes any options."""
        return Genotype.create(
            self.name,
            {
                part: {row: table.options[rng.integers(len(table.options))] for row in table.rows}
                for part, table in self.decisions.items()
            },
        )

    def validate(self, genotype: Genotype) -> None:
        """Raises ValueError unless the genotype names a known option of each table and layer."""
        check_rows(genotype, self.name, self.decisions)

    def chosen(self, genotype: Genotype) -> list[dict[str, Any]]:
        """For each layer its width, activation, initialiser and dropout."""
        self.validate(genotype)
        known = {part: dict(zip(map(_text, o), o, strict=True)) for part, o in self.options.items()}
        return [{part: known[part][genotype[part][row]] for part in PARTS} for row in self.rows]

    def parse(self, text: str) -> Genotype:
        """Reads ``|64 relu he_uniform 0.1|32 tanh lecun_uniform 0|``, a layer between bars."""
        layers = [layer.split() for layer in text.strip().strip("|").split("|")]
        if len(layers) != self.depth or any(len(layer) != len(PARTS) for layer in layers):
            raise ValueError(
                f"expected {self.depth} layers such as '|64 relu he_uniform 0.1|', each with "
                f"{', '.join(PARTS)}, got {checks.shown(text)}"
            )
        parts = zip(PARTS, zip(*layers, strict=True), strict=True)
        choices = {part: dict(zip(self.rows, column, strict=True)) for part, column in parts}
        genotype = Genotype.create(self.name, choices)
        self.validate(genotype)
        return genotype

    def format(self, genotype: Genotype) -> str:
        """Writes that form."""
        layers = [" ".join(map(_text, layer.values())) for layer in self.chosen(genotype)]
        return f"|{'|'.join(layers)}|"


class MixedLayer(nnx.Module):
    """All candidates of one layer."""

    def __init__(self, space: Dense, inputs: int):
        self.space, outputs = space, max(space.widths)
        self.kernels = nnx.List(
            uniform((inputs, outputs), INITIALISERS[name](inputs, outputs))
            for name in space.initialisers
        )
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array, mix: Mix, key: jax.Array | None) -> jax.Array:
        """Maps ``[batch, inputs]``; `mix` has a row of weights by table."""
        kernels = jnp.stack([kernel[...] for kernel in self.kernels])
        x = x @ jnp.tensordot(mix["initialiser"], kernels, 1) + self.bias[...]
        names = self.space.activations
        terms = (w * ACTIVATIONS[f](x) for w, f in zip(mix["activation"], names, strict=True))
        x = jnp.asarray(sum(terms))
        units = np.arange(max(self.space.widths))
        members = np.array([units < width for width in self.space.widths], np.float32)
        x = x * (mix["width"] @ members)
        if key is None:
            return x
        rates = np.array(self.space.dropouts, np.float32)[:, None, None]
        kept = (jax.random.uniform(key, x.shape) >= rates) / (1 - rates)
        return x * jnp.tensordot(mix["dropout"], kept, 1)


class Supernet(nnx.Module):
    """All candidates in all layers; called as `dnas.space.SearchSpace.supernet` says."""

    def __init__(self, space: Dense, task: Task, *, rngs: nnx.Rngs):
        inputs, widest = math.prod(task.inputs.shape), max(space.widths)
        self.layers = nnx.List(
            MixedLayer(space, inputs if i == 0 else widest) for i in range(space.depth)
        )
        self.head = task.head((widest,), rngs=rngs)

    def __call__(self, x: jax.Array, mix: Mix, key: jax.Array | None = None) -> Any:
        """What the head says of inputs ``[batch, ...]``."""
        x = x.reshape(len(x), -1)
        for i, layer in enumerate(self.layers):
            own = None if key is None else jax.random.fold_in(key, i)
            x = layer(x, {part: table[i] for part, table in mix.items()}, own)
        return self.head((_as_map(x),))


class Network(nnx.Module):
    """One architecture; called as ``net(inputs, train=False, key=None, drop_path=None)``."""

    def __init__(self, space: Dense, genotype: Genotype, task: Task, *, rngs: nnx.Rngs):
        chosen = space.chosen(genotype)
        inputs, self.kernels, self.biases = math.prod(task.inputs.shape), nnx.List(), nnx.List()
        for layer in chosen:
            outputs = layer["width"]
            bound = INITIALISERS[layer["initialiser"]](inputs, outputs)
            self.kernels.append(uniform((inputs, outputs), bound))
            self.biases.append(nnx.Param(jnp.zeros(outputs)))
            inputs = outputs
        self.activations = tuple(layer["activation"] for layer in chosen)
        self.dropouts = tuple(layer["dropout"] for layer in chosen)
        self.head = task.head((inputs,), rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        key: jax.Array | None = None,
        drop_path: jax.Array | float | None = None,
    ) -> NetworkOutput:
        """What the head says of inputs ``[batch, ...]``; dropout needs a key in training."""
        if drop_path is not None:
            raise ValueError("drop_path must be 0 here: dense networks have no paths to drop")
        x = x.reshape(len(x), -1)
        for i, kernel in enumerate(self.kernels):
            x = x @ kernel[...].astype(x.dtype) + self.biases[i][...].astype(x.dtype)
            x = ACTIVATIONS[self.activations[i]](x)
            if train and self.dropouts[i]:
                here = None if key is None else jax.random.fold_in(key, i)
                x = dropout(x, self.dropouts[i], here)
        return NetworkOutput(self.head((_as_map(x),)))


def _as_map(x: jax.Array) -> jax.Array:
    """Features as heads read them, maps of one pixel: ``[batch, 1, 1, channels]``."""
    return x[:, None, None]


def _text(option: Any) -> str:
    return option if isinstance(option, str) else f"{option:g}"


def _check_known(field: str, options: tuple[str, ...], known: Mapping[str, Any]) -> None:
    for option in options:
        if option not in known:
            raise ValueError(
                f"{field} has {checks.shown(option)}: expected some of {', '.join(known)}"
            )
