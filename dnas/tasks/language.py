"""The task of predicting the next token of a text."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dnas import checks
from dnas.nn.initial import started, uniform
from dnas.tasks.task import Batch, Estimate, Measure, Sums, Task

UNITS = ("word", "character")
_BOUND = 0.04  # embeddings start uniform in +-_BOUND, as published
_MOST_NATS = 700.0  # the exponential of more is no float


class Predictions(NamedTuple):
    """What a language model says.

    Attributes:
      logits: of the next token, ``[batch, time, vocabulary]``.
      change: mean square of the features' change from one time to the next, float32 ``[batch]``.
    """

    logits: jax.Array
    change: jax.Array


class TiedHead(nnx.Module):
    """An embedding whose matrix is the decoder's, too (Press and Wolf, 2017; Inan et al., 2017).

    Args:
      vocabulary: number of tokens.
      channels: width of the embedding.
    """

    def __init__(self, vocabulary: int, channels: int):
        self.embedding = uniform((vocabulary, channels), _BOUND)
        self.bias = nnx.Param(jnp.zeros(vocabulary))

    def embed(
        self, tokens: jax.Array, drop: float = 0.0, key: jax.Array | None = None
    ) -> jax.Array:
        """Features ``[..., channels]`` of int tokens ``[...]``.

        Args:
          tokens: the tokens.
          drop: probability that a token is left out wherever it stands (Gal and Ghahramani, 2016,
            section 4.2); the features of the others are scaled up.
          key: for `drop`; unused where it is zero.
        """
        features = self.embedding[...][tokens]
        if not drop:
            return features
        if key is None:
            raise ValueError("key=None: leaving out tokens needs a PRNG key")
        kept = jax.random.bernoulli(key, 1 - drop, self.bias.shape) / (1 - drop)
        return features * kept[tokens][..., None]

    def __call__(self, features: tuple[jax.Array, ...]) -> Predictions:
        """Predictions from features ``[batch, time, channels]``.

        Args:
          features: as the network computed them first, and as it hands them on last, after its
            dropout. The former are what `Predictions.change` is about.
        """
        first, last = features[0].astype(jnp.float32), features[-1]
        logits = last @ self.embedding[...].astype(last.dtype).T + self.bias[...].astype(last.dtype)
        return Predictions(logits, jnp.square(first[:, 1:] - first[:, :-1]).mean((1, 2)))


@dataclasses.dataclass(frozen=True)
class LanguageModelling:
    """Windows of a text, of which every token is to be predicted from those before.

    A network reads int32 tokens ``[batch, length]``. Rows of a batch go on where they stopped in
    the batch before, except where `reset` is true.

    Attributes:
      vocabulary: number of different tokens.
      length: tokens of a window, over which gradients go back.
      unit: what a token is, ``'word'`` or ``'character'``.
      temporal_regularization: weight of the mean square by which features change from one time to
        the next, in the loss that is minimised (Merity et al., 2017).
      symbols: the tokens as text, by their numbers; None where they are unknown.
    """

    vocabulary: int
    length: int = 35
    unit: str = "word"
    temporal_regularization: float = 0.0
    symbols: tuple[str, ...] | None = None

    name: ClassVar[str] = "language_modelling"
    measure: ClassVar[Measure] = Measure("perplexity", -1.0)

    def __post_init__(self):
        checks.whole("vocabulary", self.vocabulary)
        checks.whole("length", self.length, least=2)
        checks.not_negative("temporal_regularization", self.temporal_regularization)
        if self.unit not in UNITS:
            raise ValueError(f"unit={checks.shown(self.unit)}: expected one of {UNITS}")
        if self.symbols is not None and len(self.symbols) != self.vocabulary:
            raise ValueError(
                f"symbols has {len(self.symbols)} entries; expected vocabulary={self.vocabulary}"
            )

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """The tokens of a window, int32."""
        return jax.ShapeDtypeStruct((self.length,), jnp.int32)

    @property
    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Tokens, the tokens that follow them, and whether a text begins anew.

        A target below zero is none: it fills up the last window of a text.
        """
        return {
            "tokens": self.inputs,
            "targets": self.inputs,
            "reset": jax.ShapeDtypeStruct((), jnp.bool_),
        }

    @property
    def chance(self) -> float:
        """The cross-entropy, in nats, where all tokens are as likely."""
        return math.log(self.vocabulary)

    def head(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> TiedHead:
        """Embedding and decoder in one; see `TiedHead`."""
        return started(TiedHead(self.vocabulary, channels[-1]), rngs)

    def prepare(
        self, key: jax.Array | None, batch: Batch, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Tokens and targets, int32 ``[batch, length]``."""
        del key, train
        return batch["tokens"], batch["targets"]

    def loss(
        self, outputs: Predictions, targets: jax.Array, weights: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """The mean cross-entropy in nats, with its regularization, and the sums of both."""
        sums = self.tally(outputs, targets, weights)
        mean = sums["loss"] / jnp.maximum(sums["count"], 1)
        if not self.temporal_regularization:
            return mean, sums
        shares = jnp.ones(len(targets)) if weights is None else weights
        change = jnp.where(shares > 0, shares * outputs.change, 0).sum()
        term = self.temporal_regularization * change
        sums |= {"regularization": term, "rows": shares.sum()}
        return mean + term / sums["rows"], sums

    def tally(
        self, outputs: Predictions, targets: jax.Array, weights: jax.Array | None = None
    ) -> Sums:
        """Sums over tokens of cross-entropies, of their squares, and of weights."""
        counted = (targets >= 0).astype(jnp.float32)
        if weights is not None:
            counted = counted * weights[:, None]
        entropy = optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits.astype(jnp.float32), jnp.maximum(targets, 0)
        )
        # Where, not a product alone: what fills up a batch may be anything, also infinite.
        entropy = jnp.where(counted > 0, entropy, 0)
        return {
            "loss": (counted * entropy).sum(),
            "squares": (counted * jnp.square(entropy)).sum(),
            "count": counted.sum(),
        }

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Mean cross-entropy in nats, perplexity; of characters also in bits for each.

        And the regularization, where the loss that is minimised has one.
        """
        loss = float(sums["loss"]) / float(sums["count"])
        found = {"loss": loss, "perplexity": math.exp(min(loss, _MOST_NATS))}
        if "regularization" in sums:
            found["regularization"] = float(sums["regularization"]) / float(sums["rows"])
        bits = {"bits_per_character": loss / math.log(2)} if self.unit == "character" else {}
        return found | bits

    def score(self, sums: Mapping[str, Any]) -> Estimate:
        """Minus the perplexity, and its standard error.

        Tokens are taken as independent. The error of the cross-entropy, times the perplexity, is
        that of the perplexity to first order.
        """
        count = float(sums["count"])
        mean = float(sums["loss"]) / count
        variance = max(0.0, float(sums["squares"]) / count - mean**2)
        perplexity = self.metrics(sums)["perplexity"]
        return Estimate(-perplexity, perplexity * math.sqrt(variance / count))

    def evaluation(self, sums: Mapping[str, Any]) -> "LanguageEvaluation":
        """See `dnas.tasks.Task.evaluation`."""
        sums = {name: float(np.asarray(value)) for name, value in sums.items()}
        return LanguageEvaluation(
            self.metrics(sums), self.score(sums), int(sums["count"]), self.unit
        )

    def check_fit(self, other: Task, name: str) -> None:
        """See `dnas.tasks.Task.check_fit`."""
        if not isinstance(other, LanguageModelling):
            raise ValueError(
                f"data: {name!r} is for {other.name}, but the network was trained for {self.name}"
            )
        if (other.vocabulary, other.symbols) != (self.vocabulary, self.symbols):
            raise ValueError(
                f"data: {name!r} has a vocabulary of {other.vocabulary} {other.unit}s, another than"
                f" the network's of {self.vocabulary} {self.unit}s; read both texts as one folder"
            )

    def describe(self) -> dict[str, Any]:
        """What it takes to use a trained network without its data set."""
        return {"task": self.name, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class LanguageEvaluation:
    """How well a network predicts a text.

    Attributes:
      metrics: cross-entropy in nats, perplexity, and bits for each character.
      score: minus the perplexity, and its standard error.
      count: tokens that were predicted.
      unit: what a token is.
    """

    metrics: dict[str, float]
    score: Estimate
    count: int
    unit: str

    def format_table(self) -> str:
        """All in a line."""
        bits = self.metrics.get("bits_per_character")
        more = "" if bits is None else f", {bits:.4f} bits per character"
        return (
            f"test perplexity {self.metrics['perplexity']:.3f} +- {self.score.error:.3f}, "
            f"cross-entropy {self.metrics['loss']:.4f} nats{more}, "
            f"{self.count:,} {self.unit}s"
        )

    def as_dict(self) -> dict[str, Any]:
        """All numbers as plain data."""
        return {**self.metrics, "standard_error": self.score.error, "count": self.count}
