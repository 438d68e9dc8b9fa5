"""What data sets of independent examples have in common."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax

from dnas.data.dataset import Split, halve
from dnas.data.feeds import Batch, Feed, evaluation_batches, make_feed


@dataclasses.dataclass(frozen=True, eq=False)
class Batched:
    """Two splits of examples that may come in any order; see `dnas.data.Dataset`.

    Attributes:
      name: the set's name.
      train: what search and training may use.
      test: what only the final evaluation of a trained network may use.
    """

    name: str
    train: Split
    test: Split

    def halves(self, seed: int) -> tuple[Split, Split]:
        """See `dnas.data.halve`."""
        return halve(self.train, seed)

    def feed(self, parts: Sequence[Split], batch_size: int, key: jax.Array) -> Feed:
        """See `dnas.data.make_feed`."""
        return make_feed(parts, batch_size, key)

    def evaluation_batches(
        self, split: Split, batch_size: int
    ) -> Iterator[tuple[Batch, jax.Array]]:
        """See `dnas.data.evaluation_batches`."""
        return evaluation_batches(split, batch_size)
