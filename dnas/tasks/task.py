"""What networks are for: the contract of a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx

Batch = Mapping[str, jax.Array]  # arrays [batch, ...], by names that a task and its data know
Sums = dict[str, Any]  # arrays that add up over examples, batches and replicas; 'loss' among them


class Estimate(NamedTuple):
    """How good the outputs of a network are, as estimated from examples.

    Attributes:
      value: the measure of a task; higher is better.
      error: its standard error, as a mean over independent examples; NaN where it is unknown.
    """

    value: float
    error: float


class Measure(NamedTuple):
    """How the value of an `Estimate` is shown.

    Attributes:
      name: what it is called: ``'accuracy'``.
      factor: by which it is multiplied to be read: 100 for a share in per cent.
      unit: behind the number: ``' %'``.
    """

    name: str
    factor: float = 1.0
    unit: str = ""

    def number(self, value: float, sign: str = "") -> str:
        """A score, or a difference of scores, without the unit.

        Args:
          value: the score.
          sign: ``'+'`` to show that of numbers above zero, too.
        """
        return f"{self.factor * value:{sign}.{2 if abs(self.factor) >= 100 else 4}f}"

    @property
    def points(self) -> str:
        """The unit of differences and deviations."""
        return " points" if self.unit == " %" else self.unit


class Evaluation(Protocol):
    """What a test split says of a trained network."""

    @property
    def metrics(self) -> dict[str, float]:
        """All measures by name."""
        ...

    @property
    def score(self) -> Estimate:
        """The measure that counts."""
        ...

    def format_table(self) -> str:
        """The measures as plain text, as detailed as a reader can take in."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        ...


@runtime_checkable
class Task(Protocol):
    """What networks are for; implementations are frozen dataclasses of plain data.

    Attributes:
      name: the task's name in configs and files.
      measure: how its scores are shown.
    """

    name: ClassVar[str]
    measure: ClassVar[Measure]

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """One prepared example as a network reads it, float32 ``[height, width, 3]`` for instance.

        ``tokens`` of a recurrent network are ``[time]``.
        """
        ...

    @property
    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example of a batch before it is prepared, by the names of its arrays."""
        ...

    @property
    def chance(self) -> float:
        """The loss of the best answer that knows nothing of the example."""
        ...

    def head(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> nnx.Module:
        """The last layers of a network: ``head(features) -> outputs``.

        Args:
          channels: channels of the features ``[batch, ..., channels]``, those of the deepest last.
            Networks of images hand on maps ``[batch, height, width, channels]``, one for each
            stride; networks of tokens need a `TokenHead`.
          rngs: random streams of the initialisation.
        """
        ...

    def prepare(self, key: jax.Array | None, batch: Batch, train: bool) -> tuple[Any, Any]:
        """What a network reads, and what it should answer; runs inside of a jitted step.

        Args:
          key: PRNG key of the augmentation; None outside of training.
          batch: arrays of `examples`.
          train: whether examples are augmented.

        Returns:
          Inputs and targets, with a leading axis ``[batch]``.
        """
        ...

    def loss(
        self, outputs: Any, targets: Any, weights: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """The loss of a batch, and what its metrics are made of.

        Args:
          outputs: of a network.
          targets: of `prepare`.
          weights: float32 ``[batch]``, 0 for examples that only fill up; ones by default.

        Returns:
          The loss to minimise, a float32 scalar, and sums over the examples. It is the mean loss of
          `metrics`, and their ``'regularization'`` where they have one.
        """
        ...

    def tally(self, outputs: Any, targets: Any, weights: jax.Array) -> Sums:
        """The sums that `evaluation` reads; may hold more than those of `loss`."""
        ...

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The measures of summed `Sums`, ``'loss'`` first."""
        ...

    def score(self, sums: Mapping[str, Any]) -> Estimate:
        """The measure that counts, of summed `Sums`."""
        ...

    def evaluation(self, sums: Mapping[str, Any]) -> Evaluation:
        """What summed sums of `tally` say of a network."""
        ...

    def check_fit(self, other: "Task", name: str) -> None:
        """Raises ValueError unless a network for this task can be tested on the data of another.

        Args:
          other: the task of the data.
          name: of the data set, for the message.
        """

    def describe(self) -> dict[str, Any]:
        """The task as plain data, with its name as ``'task'``; see `dnas.tasks.rebuild`."""
        ...


@runtime_checkable
class TokenHead(Protocol):
    """The head of tasks about tokens: it also says what a network reads of a token."""

    def embed(
        self, tokens: jax.Array, drop: float = 0.0, key: jax.Array | None = None
    ) -> jax.Array:
        """Features ``[..., channels]`` of int tokens ``[...]``.

        Args:
          tokens: the tokens.
          drop: probability that a token is left out wherever it stands.
          key: for `drop`.
        """
        ...

    def __call__(self, features: tuple[jax.Array, ...]) -> Any:
        """Outputs of a network's ``[batch, time, channels]``: as they are, and after dropout."""
        ...


def summary(task: Task) -> Callable[[Mapping[str, Any], int], dict[str, float]]:
    """Makes of the sums of an epoch the numbers of its line in metrics.jsonl.

    Args:
      task: knows the parts ``'train'`` and ``'valid'`` of the sums.

    Returns:
      ``(sums, steps) -> {name: value}``; other numbers are averaged over the steps.
    """

    def summarise(sums: Mapping[str, Any], steps: int) -> dict[str, float]:
        line = {}
        for part in ("train", "valid"):
            if part in sums:
                found = task.metrics(sums[part])
                line |= {f"{part}_{name}": value for name, value in found.items()}
        others = {name: float(x) / steps for name, x in sums.items() if not isinstance(x, Mapping)}
        return line | others

    return summarise


def added(sums: Sequence[Sums]) -> Sums:
    """The sums of several batches as one, in float64 on the host."""
    return jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), 0), *sums)


def batch_of(examples: Mapping[str, jax.ShapeDtypeStruct], size: int) -> dict[str, Any]:
    """The shapes of a batch of such examples."""
    return {n: jax.ShapeDtypeStruct((size, *x.shape), x.dtype) for n, x in examples.items()}
