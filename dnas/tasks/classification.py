"""The task of telling classes of images apart."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dnas.nn.initial import started
from dnas.nn.layers import PooledLinear
from dnas.tasks.augment import normalise, preprocess
from dnas.tasks.images import ImageTask
from dnas.tasks.task import Batch, Estimate, Measure, Sums

_COLUMNS = 20  # classes up to which the confusion matrix is printed


@dataclasses.dataclass(frozen=True)
class Classification(ImageTask):
    """Images of one shape, each of one class; see `dnas.tasks.images.ImageTask`."""

    name: ClassVar[str] = "classification"
    measure: ClassVar[Measure] = Measure("accuracy", 100.0, " %")

    @property
    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """An image of bytes and its label."""
        image = jax.ShapeDtypeStruct(self.image_shape, jnp.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), jnp.int32)}

    def head(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> nnx.Module:
        """See `dnas.tasks.Task.head`."""
        return started(PooledLinear(channels[-1], self.classes), rngs)

    def prepare(
        self, key: jax.Array | None, batch: Batch, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Float images ``[batch, height, width, channels]`` and labels ``[batch]``."""
        if not train:
            return normalise(batch["image"], *self.statistics), batch["label"]
        assert key is not None
        return preprocess(self.augment, *self.statistics)(key, batch["image"]), batch["label"]

    def loss(
        self, outputs: jax.Array, targets: jax.Array, weights: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """The mean cross-entropy in nats, and the sums of losses, hits and weights."""
        entropy = _cross_entropy(outputs, targets)
        hits = (outputs.argmax(-1) == targets).astype(jnp.float32)
        if weights is None:
            mean, count = entropy.mean(), jnp.float32(len(targets))
        else:
            # Where, not a product alone: what fills up a batch may be anything, also infinite.
            entropy = jnp.where(weights > 0, entropy * weights, 0)
            hits, count = hits * weights, weights.sum()
            mean = entropy.sum() / count
        return mean, {"loss": entropy.sum(), "hits": hits.sum(), "count": count}

    def tally(self, outputs: jax.Array, targets: jax.Array, weights: jax.Array) -> Sums:
        """The sum of cross-entropies, and how many images of a class were taken for which."""
        entropy = jnp.where(weights > 0, _cross_entropy(outputs, targets), 0)
        confusion = jnp.zeros((self.classes, self.classes), jnp.int32)
        counted = (weights > 0).astype(jnp.int32)
        confusion = confusion.at[targets, outputs.argmax(-1)].add(counted)
        return {"loss": weights @ entropy, "confusion": confusion}

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Mean cross-entropy in nats, and the share of images that are classified correctly."""
        count = float(sums["count"])
        return {"loss": float(sums["loss"]) / count, "accuracy": float(sums["hits"]) / count}

    def score(self, sums: Mapping[str, Any]) -> Estimate:
        """The accuracy ``p``, and ``sqrt(p (1 - p) / n)``."""
        return _score(float(sums["hits"]), float(sums["count"]))

    def evaluation(self, sums: Mapping[str, Any]) -> "ClassificationEvaluation":
        """See `dnas.tasks.Task.evaluation`."""
        confusion = np.asarray(sums["confusion"]).astype(np.int64)
        loss = float(sums["loss"]) / int(confusion.sum())
        return ClassificationEvaluation(loss, confusion, self.class_names)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassificationEvaluation:
    """The answers of a network on a test split.

    Attributes:
      loss: mean cross-entropy, in nats.
      confusion: number of images, int64 ``[classes, classes]``: rows are the true classes, columns
        the predicted ones.
      class_names: names of the classes, in the order of the labels; None where they have none.
    """

    loss: float
    confusion: np.ndarray
    class_names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"ClassificationEvaluation({self._text()}, {len(self.confusion)} classes)"

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return self.score.value

    @property
    def standard_error(self) -> float:
        """Of the accuracy ``p``, as a share of ``n`` independent images: ``sqrt(p (1 - p) / n)``.

        It knows nothing of luck in training, which takes several seeds to tell.
        """
        return self.score.error

    @property
    def score(self) -> Estimate:
        """Accuracy and standard error."""
        return _score(int(np.trace(self.confusion)), self.count)

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy and loss."""
        return {"accuracy": self.accuracy, "loss": self.loss}

    @property
    def class_counts(self) -> np.ndarray:
        """Number of images of each class, int64 ``[classes]``."""
        return self.confusion.sum(1)

    @property
    def class_accuracies(self) -> np.ndarray:
        """Of the images of each class, the share that is classified correctly; NaN without images.

        Float64 ``[classes]``, also known as recall.
        """
        counts = self.class_counts
        return np.where(counts > 0, np.diag(self.confusion) / np.maximum(counts, 1), np.nan)

    def _text(self) -> str:
        return (
            f"accuracy {100 * self.accuracy:.2f} +- {100 * self.standard_error:.2f} %, "
            f"loss {self.loss:.4f}, {self.count:,} images"
        )

    def format_table(self) -> str:
        """The score, a line for each class, and the confusion matrix, as plain text.

        The matrix, whose columns are the predicted classes, is left out where there are many.
        """
        names = self.class_names or tuple(map(str, range(len(self.confusion))))
        shown = len(names) if len(names) <= _COLUMNS else 0
        lines = [("class", "images", "correct %", *map(str, range(shown)))]
        numbers = zip(self.class_counts, self.class_accuracies, self.confusion, strict=True)
        for i, (images, share, row) in enumerate(numbers):
            name = names[i] if names[i] == str(i) else f"{i} {names[i]}"
            correct = "-" if math.isnan(share) else f"{100 * share:.2f}"
            lines.append((name, f"{images:,}", correct, *(str(n or ".") for n in row[:shown])))
        first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
        text = [
            f"test {self._text()}"
            + "; columns 0, 1, ...: as what they were classified" * (shown > 0)
        ]
        for name, *cells in lines:
            right = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
            text.append("  ".join([name.ljust(first), *right]))
        return "\n".join(text)

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        return {
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
            "loss": self.loss,
            "count": self.count,
            "class_names": self.class_names and list(self.class_names),
            "class_counts": self.class_counts.tolist(),
            "class_accuracies": [None if math.isnan(x) else x for x in self.class_accuracies],
            "confusion": self.confusion.tolist(),
        }


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropies ``[batch]``, in float32, of logits ``[batch, classes]``."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def _score(hits: float, count: float) -> Estimate:
    share = hits / count
    return Estimate(share, math.sqrt(share * (1 - share) / count))
