"""The NAS-Bench-201 result table: accuracy and cost of all its 15,625 architectures.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search"
(ICLR 2020). The table is read from a CSV file, one line for each architecture, with a header:

===================================  ========================================================
column                               content
===================================  ========================================================
``arch_str`` (required)              the architecture, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``
``{data}_{split}_{epochs}ep``        accuracy in per cent, a mean over seeds, with data one of
(at least one)                       ``c10``, ``c100``, ``in16``; split ``test`` or ``valid``;
                                     and 12 or 200 epochs of training
``params_m_c10_analytic``, else      parameters in millions, of the CIFAR-10 network
``params_m_c10`` (optional)
``flops_m_c10``, else                floating point operations of one CIFAR-10 image, in
``flops_m_c10_fit`` (optional)       millions as the paper counts them
``c10_valid_train_seconds_200ep``    seconds of training for 200 epochs on the 25,000 images of
(optional)                           CIFAR-10's train split that do not validate
``lat_{device}`` (optional)          latency on a device, in milliseconds
===================================  ========================================================

Numbers are written with digits 0 to 9, a point and an exponent, as in ``91.5`` or ``2e-1``. Other
columns are ignored, lines may come in any order. To export the table from the API of
NATS-Bench (``api = nats_bench.create(..., 'tss')``), write a line for each
``i, arch_str in enumerate(api)``:

- ``api.get_more_info(i, 'cifar10', hp='200', is_random=False)['test-accuracy']`` is the mean
  test accuracy (``hp='12'`` for 12 epochs), and the same for ``'cifar100'`` and
  ``'ImageNet16-120'``. Validation accuracies are their ``'valid-accuracy'``; for CIFAR-10 the
  one of ``'cifar10-valid'``, because networks trained on ``'cifar10'`` have seen that split.
- ``api.get_cost_info(i, 'cifar10')`` has ``'params'`` and ``'flops'``, both in millions.

An architecture's number here is not its index there: it is
``sum(option[e] * 5**e for e in range(6))``, with `EDGES` in order and options numbered as in
`OPTIONS`, so that it can be computed, also inside of ``jax.jit``.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dnas.benchmarks import numbering
from dnas.benchmarks.numbering import EDGES, OPTIONS, SIZE
from dnas.benchmarks.table_file import ACCURACY, FLOPS, LATENCY, PARAMETERS, SECONDS, read
from dnas.checks import shown
from dnas.genotype import Genotype
from dnas.space import SearchSpace

_DATASETS = {"cifar10": "c10", "cifar100": "c100", "ImageNet16-120": "in16"}
_IMAGES = {"cifar10": 25_000, "cifar100": 50_000, "ImageNet16-120": 151_700}


@jax.tree_util.register_pytree_node_class
class NASBench201:
    """The table, as arrays that are indexed by the number of an architecture.

    Numbers may be traced arrays of any shape, under `jax.jit`, `jax.vmap` and `jax.lax.scan`;
    answers have the same shape and are float32 (ranks int32). Where a number is not below
    15,625 the answer is NaN (rank -1), because traced code cannot raise. The table itself is a
    pytree: passed as an argument to a jitted function, it is not compiled in as a constant.

    Attributes:
      datasets: the data sets with accuracies, as published: ``'cifar10'``, ``'cifar100'``,
        ``'ImageNet16-120'``.
      devices: the devices with latencies.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        """Reads the table from a CSV file (the module's documentation has its format).

        Args:
          path: the file.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: a column is missing, an architecture is malformed, missing or occurs
            twice, or a value is no number or out of its range; the message names line and column.
        """
        columns = read(pathlib.Path(path))
        self._columns = {name: jnp.asarray(values) for name, values in columns.items()}
        self._ranks = {
            name: jnp.asarray(_ranks(values))
            for name, values in columns.items()
            if ACCURACY.fullmatch(name)
        }

    def __repr__(self) -> str:
        names = ", ".join(self.datasets)
        return f"NASBench201({SIZE:,} architectures; {names}; {len(self.devices)} devices)"

    def tree_flatten(self):
        """The table's arrays, for JAX."""
        return (self._columns, self._ranks), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """The table of these arrays, for JAX."""
        table = object.__new__(cls)
        table._columns, table._ranks = children
        return table

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets with accuracies."""
        known = {name.split("_")[0] for name in self._columns if ACCURACY.fullmatch(name)}
        return tuple(name for name, short in _DATASETS.items() if short in known)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices with latencies."""
        columns = (name for name in self._columns if name.startswith(LATENCY))
        return tuple(sorted(name.removeprefix(LATENCY) for name in columns))

    @property
    def timed(self) -> bool:
        """Whether the table has `seconds`."""
        return SECONDS in self._columns

    @staticmethod
    def encode(choices: jax.Array) -> jax.Array:
        """The numbers of architectures given by option indices.

        Args:
          choices: for each edge of `EDGES` the index in `OPTIONS`, int ``[..., 6]``.

        Returns:
          int32 ``[...]``.
        """
        weights = len(OPTIONS) ** np.arange(len(EDGES))
        return (jnp.asarray(choices, jnp.int32) * weights.astype(np.int32)).sum(-1)

    @staticmethod
    def decode(number: ArrayLike) -> jax.Array:
        """The inverse of `encode`: int32 ``[...]`` to int32 ``[..., 6]``."""
        weights = len(OPTIONS) ** np.arange(len(EDGES))
        digits = jnp.asarray(number, jnp.int32)[..., None] // weights.astype(np.int32)
        return digits % len(OPTIONS)

    number = staticmethod(numbering.number)
    genotype = staticmethod(numbering.genotype)

    def accuracy(
        self, number: ArrayLike, dataset: str = "cifar10", split: str = "test", epochs: int = 200
    ) -> jax.Array:
        """Accuracy in per cent after training from scratch, a mean over seeds.

        Args:
          number: numbers of architectures, int ``[...]``.
          dataset: one of `datasets`.
          split: ``'test'`` or ``'valid'``; nothing may be chosen by the test accuracy.
          epochs: of training, 12 or 200.

        Returns:
          float32 ``[...]``.

        Raises:
          ValueError: the table has no such column; the message lists those it has.
        """
        return _take(self._columns[self._accuracy_column(dataset, split, epochs)], number)

    def rank(
        self, number: ArrayLike, dataset: str = "cifar10", split: str = "test", epochs: int = 200
    ) -> jax.Array:
        """Rank by accuracy among all architectures, 1 for the best; ties share the better one.

        Arguments and errors are those of `accuracy`.

        Returns:
          int32 ``[...]``.
        """
        return _take(self._ranks[self._accuracy_column(dataset, split, epochs)], number)

    def parameters(self, number: ArrayLike) -> jax.Array:
        """Parameters of the CIFAR-10 network in millions (C=16, N=5), float32 ``[...]``."""
        return self._first_of(PARAMETERS, number)

    def flops(self, number: ArrayLike) -> jax.Array:
        """Floating point operations of one CIFAR-10 image in millions, float32 ``[...]``.

        The published ones (``flops_m_c10``) are multiply-adds, and one more for each class; see
        `dnas.costs.count_multiply_adds`. The column ``flops_m_c10_fit`` also counts three for every
        element that a convolution's ReLU and normalisation pass, and nine for every pooled one.
        """
        return self._first_of(FLOPS, number)

    def latency(self, number: ArrayLike, device: str) -> jax.Array:
        """Latency on one of the `devices` in milliseconds, float32 ``[...]``."""
        if device not in self.devices:
            raise ValueError(f"no latency on device {shown(device)}; the table has {self.devices}")
        return _take(self._columns[LATENCY + device], number)

    def seconds(self, number: ArrayLike, dataset: str = "cifar10", epochs: int = 200) -> jax.Array:
        """Seconds of training on the images that do not validate, float32 ``[...]``.

        The published times are those of CIFAR-10; others follow from the numbers of images: 25,000,
        50,000 of CIFAR-100 and 151,700 of ImageNet16-120.

        Raises:
          ValueError: the table has no such times, or does not know the data set.
        """
        if dataset not in self.datasets:
            raise ValueError(f"dataset={shown(dataset)}: the table has {self.datasets}")
        return self._first_of((SECONDS,), number) * (_IMAGES[dataset] / 25_000 * epochs / 200)

    def check(self, space: SearchSpace, data_name: str) -> None:
        """Raises ValueError unless `look_up` knows the architectures of a space.

        Args:
          space: the search space.
          data_name: name of a data set.
        """
        decisions = {name: (set(d.rows), set(d.options)) for name, d in space.decisions.items()}
        rows, candidates = decisions.get("cell", (set(), set()))
        if set(decisions) != {"cell"} or rows != set(EDGES) or not candidates <= set(OPTIONS):
            raise ValueError(
                f"table: it knows cells with the edges {EDGES} and operations of "
                f"{OPTIONS}; the space {space.name!r} has {dict(space.decisions)}"
            )
        self._look_up(0, data_name)

    def look_up(self, genotype: Genotype, data_name: str) -> dict[str, Any]:
        """The number of an architecture, its accuracies in per cent, and its rank, for a report.

        Args:
          genotype: the architecture.
          data_name: name of a data set; CIFAR-10 takes the place of those that are not known.
        """
        return self._look_up(self.number(genotype), data_name)

    def _look_up(self, number: int, data_name: str) -> dict[str, Any]:
        name = data_name if data_name in self.datasets else "cifar10"
        return {
            "dataset": name,
            "number": number,
            "test_accuracy": float(self.accuracy(number, name)),
            "valid_accuracy": float(self.accuracy(number, name, "valid")),
            "rank": int(self.rank(number, name)),
        }

    def _accuracy_column(self, dataset: str, split: str, epochs: int) -> str:
        column = f"{_DATASETS.get(dataset)}_{split}_{epochs}ep"
        if column not in self._ranks:
            names = {short: name for name, short in _DATASETS.items()}
            known = [
                f"{names[short]} {split} {epochs}"
                for short, split, epochs in (
                    found.groups() for found in map(ACCURACY.fullmatch, self._ranks) if found
                )
            ]
            raise ValueError(
                f"no accuracy of data set {shown(dataset)}, split {shown(split)} after "
                f"{shown(epochs)} epochs;"
                f" the table has {', '.join(known)}"
            )
        return column

    def _first_of(self, names: tuple[str, ...], number: ArrayLike) -> jax.Array:
        for name in names:
            if name in self._columns:
                return _take(self._columns[name], number)
        raise ValueError(f"the table has no column {' or '.join(map(repr, names))}")


def _take(values: jax.Array, number: ArrayLike) -> jax.Array:
    """Values by number; NaN or -1 for a number that is out of range, not a neighbour's value."""
    fill = -1 if jnp.issubdtype(values.dtype, jnp.integer) else jnp.nan
    number = jnp.asarray(number)
    if not jnp.issubdtype(number.dtype, jnp.integer):
        raise TypeError(f"an architecture's number must be an integer, got {number.dtype}")
    inside = (number >= 0) & (number < SIZE)
    return jnp.where(inside, values[jnp.clip(number, 0, SIZE - 1)], jnp.asarray(fill, values.dtype))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Competition ranks of a column, the largest value first."""
    ascending = np.sort(values)
    return (1 + len(values) - np.searchsorted(ascending, values, side="right")).astype(np.int32)
