"""What a trained network reads and says, and how good it is on a test split."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas import data as datasets
from dnas.jobs.supervised import cross_entropy
from dnas.runtime import programs

# (state, normalised images [batch, H, W, C]) -> logits [batch, classes]
Apply = Callable[[Any, jax.Array], jax.Array]
_COLUMNS = 20  # classes up to which the confusion matrix is printed


class Signature(NamedTuple):
    """What a trained network reads and says.

    Attributes:
      image_shape: height, width and channels of one image.
      classes: number of classes.
      mean: of the images that it was trained on, per channel, scaled to [0, 1].
      std: their standard deviation, likewise; see `dnas.data.normalise`.
      class_names: names of the classes, in the order of the labels; None where they have none.
    """

    image_shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, data: datasets.Dataset) -> "Signature":
        """That of a network which is trained on a data set."""
        return cls(data.image_shape, data.classes, data.mean, data.std, data.class_names)


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
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
        return f"Evaluation({self._score()}, {len(self.confusion)} classes)"

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return int(np.trace(self.confusion)) / self.count

    @property
    def standard_error(self) -> float:
        """Of the accuracy ``p``, as a share of ``n`` independent images: ``sqrt(p (1 - p) / n)``.

        It knows nothing of luck in training, which takes several seeds to tell.
        """
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.count)

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

    def _score(self) -> str:
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
            f"test {self._score()}"
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

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2) + "\n"


def make_evaluate(
    apply: Apply, signature: Signature
) -> Callable[[Any, datasets.Split, int], Evaluation]:
    """Makes the function that tests a network; it compiles once.

    Args:
      apply: the network in float32 with running averages, as a function of its state.
      signature: of the network, whose normalisation the images get.

    Returns:
      ``(state, split, batch_size) -> evaluation``; the split must be of the signature's shape and
      classes.
    """

    @programs.once
    @jax.jit
    def tally(state, batch, weights):
        images = datasets.normalise(batch["image"], signature.mean, signature.std)
        logits = apply(state, images)
        entropy = cross_entropy(logits, batch["label"])
        # Where, not a product alone: what fills up a batch may be anything, also infinite.
        entropy = jnp.where(weights > 0, entropy, 0)
        return weights @ entropy, weights.astype(bool), batch["label"], logits.argmax(-1)

    def evaluate(state, split, batch_size):
        batches = datasets.evaluation_batches(split, batch_size)
        tallies = jax.device_get([tally(state, *batch) for batch in batches])
        entropies, counted, labels, predicted = (
            np.stack(parts) for parts in zip(*tallies, strict=True)
        )
        confusion = np.zeros((signature.classes, signature.classes), np.int64)
        np.add.at(confusion, (labels[counted], predicted[counted]), 1)
        loss = float(entropies.sum(dtype=np.float64) / confusion.sum())
        return Evaluation(loss, confusion, signature.class_names)

    return evaluate
