"""What a data set is: two splits of examples, read only when they are needed.

A `Split` is a source of examples and the indices of those that belong to it. Limiting and
halving work on the indices, so that nothing is decoded before somebody asks for examples, and
then only what was asked for: a search that never touches the test split never decodes it.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from dnas import checks
from dnas.data.content import Content, blocks, hashed
from dnas.tasks import Augment, Task

DEVICE_BUDGET = 2**30  # Bytes of examples up to which a set is kept in memory.

# Numbers that set the random streams of `limit` and `halve` apart where both get one seed.
_LIMIT, _HALVE = 1, 2
Arrays = dict[str, np.ndarray]
Examples = dict[str, jax.ShapeDtypeStruct]


class Source(Protocol):
    """Random access to examples, all of the same shapes.

    Attributes:
      examples: one example, by the names of its arrays: ``'image'`` and ``'label'``, say.
    """

    @property
    def examples(self) -> Examples:
        """One example, by the names of its arrays."""
        ...

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def read(self, indices: np.ndarray) -> Arrays:
        """A few examples ``[n, ...]``, in the caller's thread."""
        ...

    def load(self, indices: np.ndarray) -> Arrays:
        """The same for many examples, with all processors and a progress bar."""
        ...

    def column(self, name: str, indices: np.ndarray) -> np.ndarray:
        """One of the arrays alone; labels, for instance, without decoding an image."""
        ...

    def content(self, indices: np.ndarray) -> Content:
        """What tells these examples, in this order, from others; cheap for large sets."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples that lie in memory already.

    Attributes:
      arrays: ``[N, ...]`` by name, all of one length.
    """

    arrays: Arrays

    def __repr__(self) -> str:
        return f"ArraySource({_amount(self)})"

    @property
    def examples(self) -> Examples:
        """See `Source.examples`."""
        return {n: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for n, x in self.arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, indices: np.ndarray) -> Arrays:
        """See `Source.read`. Everything in its order comes back without a copy."""
        if np.array_equal(indices, np.arange(len(self))):
            return self.arrays
        return {name: array[indices] for name, array in self.arrays.items()}

    load = read

    def column(self, name: str, indices: np.ndarray) -> np.ndarray:
        """See `Source.column`."""
        return self.arrays[name][indices]

    def content(self, indices: np.ndarray) -> Content:
        """See `Source.content`."""
        pieces = (
            array[some].tobytes() for array in self.arrays.values() for some in blocks(indices)
        )
        names = " ".join(self.arrays).encode()
        return Content(hashed(itertools.chain([names], pieces)), "all numbers of the arrays")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some examples of a source, in a fixed order.

    Attributes:
      source: where the examples come from.
      indices: int ``[N]``, which examples of the source belong to the split.
      whole: the split that this one is a part of, where the whole is wanted in memory anyway:
        the parts then take their examples from it, instead of decoding them again.
      rows: int ``[N]``, where the examples of this part are in the whole.
    """

    source: Source
    indices: np.ndarray
    whole: "Split | None" = None
    rows: np.ndarray | None = None

    @classmethod
    def all(cls, source: Source) -> "Split":
        """All examples of a source, in its order."""
        return cls(source, np.arange(len(source)))

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Split({_amount(self)})"

    @property
    def examples(self) -> Examples:
        """One example, by the names of its arrays."""
        return self.source.examples

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded examples, known without decoding them."""
        return len(self) * sum(
            int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in self.examples.values()
        )

    @functools.cached_property
    def arrays(self) -> Arrays:
        """All examples ``[N, ...]`` by name; decoded when first asked for, then kept."""
        if self.whole is not None:
            return {name: array[self.rows] for name, array in self.whole.arrays.items()}
        return self.source.load(self.indices)

    def column(self, name: str) -> np.ndarray:
        """One of the arrays; the others are not decoded for it."""
        if "arrays" in self.__dict__:
            return self.arrays[name]
        return self.source.column(name, self.indices)

    @property
    def content(self) -> Content:
        """What tells the split from others; looked at whenever it is asked for."""
        return self.source.content(self.indices)

    def limited(self, count: int, seed: int) -> "Split":
        """That many of the examples, drawn at random, in the order that they had."""
        drawn = np.random.default_rng((seed, _LIMIT)).permutation(len(self))[:count]
        return Split(self.source, self.indices[np.sort(drawn)])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image, in splits of images."""
        return self.examples["image"].shape

    @property
    def images(self) -> np.ndarray:
        """All images, uint8 ``[N, H, W, C]``."""
        return self.arrays["image"]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """All labels, int32 ``[N]``; no image is decoded for them."""
        return self.column("label")


@runtime_checkable
class Dataset(Protocol):
    """Examples for training and testing, and what networks are to make of them.

    Implementations are frozen dataclasses: ``dataclasses.replace(data, train=...)`` is one, too.

    Attributes:
      name: the set's name.
      train: what search and training may use.
      test: what only the final evaluation of a trained network may use.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """The set's name."""
        ...

    @property
    def train(self) -> Any:
        """What search and training may use: a `Split`, or another part that its feed knows."""
        ...

    @property
    def test(self) -> Any:
        """What only the final evaluation of a trained network may use."""
        ...

    @property
    def summary(self) -> str:
        """The set in a line: name, examples, splits."""
        ...

    def task(self, augment: Augment | None = None, *, measured: bool = True) -> Task:
        """What networks are to make of the examples.

        Args:
          augment: what is done to train examples; nothing by default.
          measured: whether the task knows the statistics of the train split; without them, no
            example is decoded, which is enough to check shapes.
        """
        ...

    def check(self) -> None:
        """Raises ValueError where a network could not learn from the train split."""

    def describe(self) -> dict[str, Any]:
        """What tells the set from others, as plain data."""
        ...

    def halves(self, seed: int) -> tuple[Any, Any]:
        """Two parts of the train split: the weights' and the architecture's; see `halve`."""
        ...

    def feed(self, parts: Sequence[Any], batch_size: int, key: jax.Array) -> Any:
        """Batches of parts of the train split; see `dnas.data.make_feed`."""
        ...

    def evaluation_batches(self, split: Any, batch_size: int) -> Iterator[tuple[Any, jax.Array]]:
        """All of a split once, in order; see `dnas.data.evaluation_batches`."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A data set with a split that a training may look at after each epoch.

    Attributes:
      valid: the split; None where it has none.
    """

    valid: Any


def size_text(shape: tuple[int, ...]) -> str:
    """A shape in words: ``32x32x3``."""
    return "x".join(map(str, shape))


def describe_split(split: Split) -> dict[str, Any]:
    """What tells a split from others, as plain data."""
    content = split.content
    return {"examples": len(split), "content": content.digest, "covers": content.covers}


def _amount(examples: Source | Split) -> str:
    shapes = (f"{name} {size_text(x.shape) or 'scalar'}" for name, x in examples.examples.items())
    return f"{len(examples):,} examples: {', '.join(shapes)}"


def limit(split: Split, n: int, seed: int) -> Split:
    """A random subset of `n` images; only these will ever be decoded.

    Args:
      split: the images to choose from.
      n: how many to keep.
      seed: a non-negative integer; the same seed chooses the same images.

    Returns:
      A split of `n` images, in the order that they had.

    Raises:
      ValueError: `n` is no whole number, smaller than 2 or larger than the split.
    """
    checks.whole("n", n, least=0)
    if not 2 <= n <= len(split):
        raise ValueError(
            f"cannot limit the train set to {n} images: it has {len(split)}, so the limit must "
            f"lie between 2 and {len(split)} (or be left out, to use all)"
        )
    return split.limited(n, seed)


def halve(split: Split, seed: int) -> tuple[Split, Split]:
    """Shuffles a split and cuts it into two disjoint halves.

    Liu et al., "DARTS: Differentiable Architecture Search" (2019), section 3.1: one half of the
    train set trains the weights, the other half the architecture.

    Args:
      split: at least two images.
      seed: a non-negative integer; the same seed makes the same halves.

    Returns:
      The weights' part and the architecture's part; of an odd number of images, the second has
      one more.

    Raises:
      ValueError: there are fewer than two images.
    """
    if len(split) < 2:
        raise ValueError(f"cannot halve {len(split)} image(s): at least 2 are needed")
    order = np.random.default_rng((seed, _HALVE)).permutation(len(split))
    cut = len(split) // 2
    first, second = (
        Split(split.source, split.indices[rows], whole=split, rows=rows)
        for rows in (np.sort(order[:cut]), np.sort(order[cut:]))
    )
    return first, second
