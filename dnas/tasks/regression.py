"""The task of predicting a number."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dnas import checks
from dnas.nn.initial import started
from dnas.nn.layers import PooledLinear
from dnas.tasks.task import Batch, Estimate, Measure, Sums, Task

# Which sums `Regression.loss` makes, as powers (of the error, of the target).
_POWERS = {
    "count": (0, 0),
    "loss": (2, 0),
    "target": (0, 1),
    "target2": (0, 2),
    "target3": (0, 3),
    "target4": (0, 4),
    "loss_target": (2, 1),
    "loss_target2": (2, 2),
    "loss2": (4, 0),
}


class Regressor(PooledLinear):
    """A single number of the deepest features, averaged over all places."""

    def __call__(self, features: tuple[jax.Array, ...]) -> jax.Array:
        """Predictions ``[batch]``; see `dnas.nn.layers.PooledLinear`."""
        return super().__call__(features)[..., 0]


@dataclasses.dataclass(frozen=True)
class Regression:
    """Rows of numbers, for each of which another number is to be predicted.

    Networks read and predict numbers of mean 0 and standard deviation 1. The score is the
    coefficient of determination: it has no unit, 1 is perfect, and the mean of the targets gets 0.

    Attributes:
      columns: names of the numbers in a row.
      target: name of the number to predict.
      mean: of each column in the train split; zeros by default.
      std: standard deviation of each column, likewise; ones by default.
      target_mean: mean of the targets in the train split.
      target_std: their standard deviation.
    """

    columns: tuple[str, ...]
    target: str = "target"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target_mean: float = 0.0
    target_std: float = 1.0

    name: ClassVar[str] = "regression"
    measure: ClassVar[Measure] = Measure("R2")

    def __post_init__(self):
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.columns):
                raise ValueError(
                    f"{name} has {len(given)} numbers; expected one for each of "
                    f"{len(self.columns)} columns"
                )
        checks.positive("target_std", self.target_std, most=math.inf)

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """A normalised row, float32."""
        return jax.ShapeDtypeStruct((len(self.columns),), jnp.float32)

    @property
    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """A row and its target, as they are in the table."""
        return {"row": self.inputs, "target": jax.ShapeDtypeStruct((), jnp.float32)}

    @property
    def chance(self) -> float:
        """The mean squared error of the targets' mean, in their variance."""
        return 1.0

    def head(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> nnx.Module:
        """See `dnas.tasks.Task.head`."""
        return started(Regressor(channels[-1], 1), rngs)

    def prepare(
        self, key: jax.Array | None, batch: Batch, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Normalised rows ``[batch, columns]`` and targets ``[batch]``; nothing is random."""
        del key, train
        rows = batch["row"]
        if self.mean is not None:
            rows = rows - np.asarray(self.mean, np.float32)
        if self.std is not None:
            rows = rows / np.asarray(self.std, np.float32)
        return rows, (batch["target"] - self.target_mean) / self.target_std

    def loss(
        self, outputs: jax.Array, targets: jax.Array, weights: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """The mean squared error in variances of the targets, and the sums of `tally`."""
        sums = self.tally(outputs, targets, weights)
        return sums["loss"] / sums["count"], sums

    def tally(
        self, outputs: jax.Array, targets: jax.Array, weights: jax.Array | None = None
    ) -> Sums:
        """Sums of powers of errors and targets, from which `score` has its standard error."""
        weights = jnp.ones(len(targets)) if weights is None else weights
        errors = outputs.astype(jnp.float32) - targets
        # Where, not a product alone: what fills up a batch may be anything, also infinite.
        errors, targets = (jnp.where(weights > 0, x, 0) for x in (errors, targets))
        return {
            name: (weights * errors**of_error * targets**of_target).sum()
            for name, (of_error, of_target) in _POWERS.items()
        }

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The loss, the root mean square of the errors in the target's unit, and R2."""
        loss = float(sums["loss"]) / float(sums["count"])
        return {"loss": loss, "rmse": self.target_std * math.sqrt(loss), "r2": _r2(sums)[0]}

    def score(self, sums: Mapping[str, Any]) -> Estimate:
        """R2 = 1 - m / v, of the mean squared error m and the targets' variance v.

        The standard error is that of a ratio of means, by the delta method: of the contributions
        ``m d^2 / v^2 - e^2 / v`` of examples with errors e and targets d from their mean. They have
        the mean zero, so that the sums of their squares are all that it takes. NaN where all
        targets are one number.
        """
        return Estimate(*_r2(sums))

    def evaluation(self, sums: Mapping[str, Any]) -> "RegressionEvaluation":
        """See `dnas.tasks.Task.evaluation`."""
        count = round(float(sums["count"]))
        return RegressionEvaluation(self.metrics(sums), self.score(sums), count, self.target)

    def check_fit(self, other: Task, name: str) -> None:
        """Raises ValueError where columns or target differ."""
        if not isinstance(other, Regression):
            raise ValueError(
                f"data: {name!r} is for {other.name}, but the network was trained for {self.name}"
            )
        if other.columns != self.columns:
            odd = sorted({*other.columns} ^ {*self.columns}) or "another order"
            raise ValueError(
                f"data: the columns of {name!r} are not those of the network: {checks.shown(odd)}"
            )
        if other.target != self.target:
            raise ValueError(
                f"data: the target of {name!r} is {other.target!r}, but the network was trained to "
                f"predict {self.target!r}"
            )

    def describe(self) -> dict[str, Any]:
        """What it takes to use a trained network without its data set."""
        return {"task": self.name, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class RegressionEvaluation:
    """How well a network predicts the targets of a test split.

    Attributes:
      metrics: the loss, the root mean square of the errors in the target's unit, and R2.
      score: R2 and its standard error.
      count: number of examples.
      target: what was predicted.
    """

    metrics: dict[str, float]
    score: Estimate
    count: int
    target: str

    def format_table(self) -> str:
        """All in a line."""
        value, error = self.score
        return (
            f"test R2 {value:.4f} +- {error:.4f}, root mean squared error "
            f"{self.metrics['rmse']:.5g} of {self.target!r}, {self.count:,} examples"
        )

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        error = None if math.isnan(self.score.error) else self.score.error
        facts = {"standard_error": error, "count": self.count, "target": self.target}
        return {**self.metrics, **facts}


def _r2(sums: Mapping[str, Any]) -> tuple[float, float]:
    """R2 and its standard error; see `Regression.score`."""
    count = float(sums["count"])
    _, loss, t1, t2, t3, t4, loss_t1, loss_t2, loss2 = (float(sums[x]) / count for x in _POWERS)
    variance = t2 - t1**2
    if variance <= 0:
        return math.nan, math.nan
    ratio = loss / variance
    # Central moments of the targets, alone and times the squared error.
    fourth = t4 - 4 * t1 * t3 + 6 * t1**2 * t2 - 3 * t1**4
    both = loss_t2 - 2 * t1 * loss_t1 + t1**2 * loss
    square = ratio**2 * fourth - 2 * ratio * both + loss2
    return 1 - ratio, math.sqrt(max(square, 0.0) / count) / variance
