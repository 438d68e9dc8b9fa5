"""The task of telling to which class every pixel of an image belongs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dnas import checks
from dnas.nn.initial import started
from dnas.nn.layers import Linear
from dnas.tasks.augment import normalise, preprocess
from dnas.tasks.images import ImageTask
from dnas.tasks.task import Batch, Estimate, Measure, Sums

_TINY = 1e-5  # mean square of features that are as good as zero


class Decoder(nnx.Module):
    """Class scores at every stride, upsampled and summed (cf. Long et al., 2015, section 4.2).

    An affine map makes scores of the features of each stride, whose root mean square is 1 in every
    image: what cells hand on between stages may be of any size. From the deepest on, scores are
    brought to the next larger size and added to the scores there, at last to that of the image.

    Args:
      channels: of the features, those of the smallest stride first.
      classes: number of classes.
      size: height and width of an image.
    """

    def __init__(self, channels: tuple[int, ...], classes: int, size: tuple[int, int]):
        self.scores = nnx.List(Linear(width, classes) for width in channels)
        self.size = size

    def __call__(self, features: tuple[jax.Array, ...]) -> jax.Array:
        """Logits ``[batch, H, W, classes]`` of maps ``[batch, height, width, channels]``."""
        every = [scores(_scaled(x)) for scores, x in zip(self.scores, features, strict=True)]
        found = every.pop()
        while every:
            finer = every.pop()
            found = finer + _resized(found, finer.shape[1:3])
        return _resized(found, self.size)


@dataclasses.dataclass(frozen=True)
class Segmentation(ImageTask):
    """Images of one shape, each of whose pixels is of one class, or of none.

    The score is the mean intersection over union of all pixels of a split: for each class, the
    pixels that are truly of it and taken for it, over those that are either. Classes that are in
    neither have no part in the mean.

    Attributes are those of `dnas.tasks.images.ImageTask`. Labels are 0 to ``classes - 1``, and
    others are void: they have no part in the loss or in any measure. In training, labels move with
    their pixels; what a crop adds is void; what cutout hides keeps its labels.
    """

    name: ClassVar[str] = "segmentation"
    measure: ClassVar[Measure] = Measure("mean IoU", 100.0, " %")

    def __post_init__(self):
        checks.whole("classes", self.classes, least=2, most=255)

    @property
    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """An image and the labels of its pixels, both of bytes."""
        image = jax.ShapeDtypeStruct(self.image_shape, jnp.uint8)
        return {"image": image, "labels": jax.ShapeDtypeStruct(self.image_shape[:2], jnp.uint8)}

    def head(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> nnx.Module:
        """See `dnas.tasks.Task.head`."""
        return started(Decoder(channels, self.classes, self.image_shape[:2]), rngs)

    def prepare(
        self, key: jax.Array | None, batch: Batch, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Float images ``[batch, H, W, channels]`` and labels ``[batch, H, W]``, -1 for void."""
        # Void is zero while images move, as what a crop adds.
        labels = batch["labels"].astype(jnp.int32)
        labels = jnp.where(labels < self.classes, labels + 1, 0)
        if train:
            assert key is not None
            images, labels = preprocess(self.augment, *self.statistics)(key, batch["image"], labels)
        else:
            images = normalise(batch["image"], *self.statistics)
        return images, labels - 1

    def loss(
        self, outputs: jax.Array, targets: jax.Array, weights: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """The mean cross-entropy in nats over all pixels that are not void, and `tally`."""
        sums = self.tally(outputs, targets, weights)
        return sums["loss"] / jnp.maximum(sums["count"], 1), sums

    def tally(
        self, outputs: jax.Array, targets: jax.Array, weights: jax.Array | None = None
    ) -> Sums:
        """Sums over images, from which `score` has its standard error, too.

        Those are the losses of pixels; how many pixels there are; for each class `overlap`, the
        pixels of its intersection, and `union`; and `moments` ``[2 classes, 2 classes]``, the
        products of all pairs of an image's intersections and unions, as shares of its pixels.
        """
        weights = jnp.ones(len(targets)) if weights is None else weights
        counted = (targets >= 0) & (weights > 0)[:, None, None]
        entropy = optax.softmax_cross_entropy_with_integer_labels(
            outputs.astype(jnp.float32), jnp.maximum(targets, 0)
        )
        # Where, not a product alone: what fills up a batch may be anything, also infinite.
        entropy = jnp.where(counted, entropy * weights[:, None, None], 0)
        classes = jnp.arange(self.classes)
        truth = (targets[..., None] == classes) & counted[..., None]
        taken = (outputs.argmax(-1)[..., None] == classes) & counted[..., None]
        overlap, union = (x.sum((1, 2), dtype=jnp.float32) for x in (truth & taken, truth | taken))
        shares = jnp.concatenate([overlap, union], 1) / math.prod(self.image_shape[:2])
        return {
            "loss": entropy.sum(),
            "count": (weights * counted.sum((1, 2))).sum(),
            "overlap": weights @ overlap,
            "union": weights @ union,
            "moments": jnp.einsum("b,bi,bj->ij", weights, shares, shares),
        }

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Mean cross-entropy in nats, mean IoU, and the share of pixels classified correctly."""
        count = max(float(sums["count"]), 1.0)
        return {
            "loss": float(sums["loss"]) / count,
            "mean_iou": self.score(sums).value,
            "pixel_accuracy": float(np.sum(sums["overlap"])) / count,
        }

    def score(self, sums: Mapping[str, Any]) -> Estimate:
        """The mean over classes of intersection over union, ``I / U``, each of the whole set.

        The standard error takes images as independent, and is that of a mean of ratios of sums by
        the delta method: an image with intersections ``i`` and unions ``u`` contributes the mean
        over classes of ``(i - I / U * u) / U``, and the contributions' squares add up.
        """
        overlap, union = (np.asarray(sums[n], np.float64) for n in ("overlap", "union"))
        present = union > 0
        if not present.any():
            return Estimate(math.nan, math.nan)
        ratios = _ratios(overlap, union)
        pixels = math.prod(self.image_shape[:2])
        scale = np.where(present, pixels / np.where(present, union, 1), 0) / present.sum()
        slope = np.concatenate([scale, -scale * np.where(present, ratios, 0)])
        square = slope @ np.asarray(sums["moments"], np.float64) @ slope
        return Estimate(float(ratios[present].mean()), math.sqrt(max(square, 0.0)))

    def evaluation(self, sums: Mapping[str, Any]) -> "SegmentationEvaluation":
        """See `dnas.tasks.Task.evaluation`."""
        overlap, union = (np.asarray(sums[n], np.float64) for n in ("overlap", "union"))
        return SegmentationEvaluation(
            self.metrics(sums), self.score(sums), overlap, union, self.class_names
        )


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationEvaluation:
    """The answers of a network on a test split.

    Attributes:
      metrics: mean cross-entropy in nats, mean IoU, and the share of pixels classified correctly.
      score: mean IoU and its standard error.
      overlap: pixels of each class that are taken for it, float64 ``[classes]``.
      union: pixels of each class, or taken for it, likewise.
      class_names: names of the classes, in the order of the labels; None where they have none.
    """

    metrics: dict[str, float]
    score: Estimate
    overlap: np.ndarray
    union: np.ndarray
    class_names: tuple[str, ...] | None = None

    @property
    def class_ious(self) -> np.ndarray:
        """Intersection over union of each class, float64 ``[classes]``; NaN where it is nowhere."""
        return _ratios(self.overlap, self.union)

    def format_table(self) -> str:
        """The score, and a line for each class."""
        value, error = self.score
        pixels = self.metrics["pixel_accuracy"]
        lines = [
            f"test mean IoU {100 * value:.2f} +- {100 * error:.2f} %, {100 * pixels:.2f} % of the "
            f"pixels, loss {self.metrics['loss']:.4f}"
        ]
        names = self.class_names or tuple(map(str, range(len(self.union))))
        width = max(map(len, names))
        for name, ratio in zip(names, self.class_ious, strict=True):
            shown = "-" if math.isnan(ratio) else f"{100 * ratio:.2f}"
            lines.append(f"  {name.ljust(width)}  IoU {shown.rjust(6)} %")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        return {
            **self.metrics,
            "standard_error": self.score.error,
            "class_names": self.class_names and list(self.class_names),
            "class_ious": [None if math.isnan(x) else x for x in self.class_ious.tolist()],
        }


def _ratios(overlap: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersections over unions; NaN where there is no union."""
    return np.where(union > 0, overlap / np.maximum(union, 1), np.nan)


def _scaled(x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` whose mean square is 1 in every image."""
    return x * jax.lax.rsqrt(jnp.square(x).mean((1, 2, 3), keepdims=True) + _TINY)


def _resized(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` of another size, by bilinear interpolation."""
    if x.shape[1:3] == tuple(size):
        return x
    return jax.image.resize(x, (len(x), *size, x.shape[-1]), "bilinear")
