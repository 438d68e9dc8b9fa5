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

import csv
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas.checks import shown
from dnas.genotype import Genotype
from dnas.spaces.published import parse_nas_bench_201

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
OPTIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZE = len(OPTIONS) ** len(EDGES)

_DATASETS = {"cifar10": "c10", "cifar100": "c100", "ImageNet16-120": "in16"}
_ACCURACY = re.compile(r"(c10|c100|in16)_(test|valid)_(12|200)ep")
_PARAMETERS = ("params_m_c10_analytic", "params_m_c10")
_FLOPS = ("flops_m_c10", "flops_m_c10_fit")
_LATENCY = "lat_"
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = 1e9  # of a cost, in millions or milliseconds


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
        columns = _read(pathlib.Path(path))
        self._columns = {name: jnp.asarray(values) for name, values in columns.items()}
        self._ranks = {
            name: jnp.asarray(_ranks(values))
            for name, values in columns.items()
            if _ACCURACY.fullmatch(name)
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
        known = {name.split("_")[0] for name in self._columns if _ACCURACY.fullmatch(name)}
        return tuple(name for name, short in _DATASETS.items() if short in known)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices with latencies."""
        columns = (name for name in self._columns if name.startswith(_LATENCY))
        return tuple(sorted(name.removeprefix(_LATENCY) for name in columns))

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
    def decode(number: jax.Array) -> jax.Array:
        """The inverse of `encode`: int32 ``[...]`` to int32 ``[..., 6]``."""
        weights = len(OPTIONS) ** np.arange(len(EDGES))
        digits = jnp.asarray(number, jnp.int32)[..., None] // weights.astype(np.int32)
        return digits % len(OPTIONS)

    @staticmethod
    def number(genotype: Genotype) -> int:
        """The number of a genotype with one part ``'cell'`` (its space's name does not matter).

        Raises:
          ValueError: the genotype is none of NAS-Bench-201; the message says why.
        """
        cell = genotype["cell"] if genotype.parts() == ("cell",) else None
        if cell is None or set(cell) != set(EDGES):
            raise ValueError(
                f"expected a genotype with one part 'cell' that has the edges {EDGES},"
                f" got {shown(dict(genotype.choices))}"
            )
        for edge, option in cell.items():
            if option not in OPTIONS:
                raise ValueError(
                    f"edge {edge!r} has operation {shown(option)}, expected of {OPTIONS}"
                )
        return sum(OPTIONS.index(cell[e]) * len(OPTIONS) ** i for i, e in enumerate(EDGES))

    @staticmethod
    def genotype(number: int) -> Genotype:
        """The genotype of a number: the inverse of `number`.

        Raises:
          ValueError: the number is not in 0 ... 15,624.
        """
        number = int(number)
        if not 0 <= number < SIZE:
            raise ValueError(
                f"an architecture's number must be in 0 ... {SIZE - 1}, got {shown(number)}"
            )
        options = (OPTIONS[number // len(OPTIONS) ** i % len(OPTIONS)] for i in range(len(EDGES)))
        return Genotype.create("nas_bench_201", {"cell": dict(zip(EDGES, options, strict=True))})

    def accuracy(
        self, number: jax.Array, dataset: str = "cifar10", split: str = "test", epochs: int = 200
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
        self, number: jax.Array, dataset: str = "cifar10", split: str = "test", epochs: int = 200
    ) -> jax.Array:
        """Rank by accuracy among all architectures, 1 for the best; ties share the better one.

        Arguments and errors are those of `accuracy`.

        Returns:
          int32 ``[...]``.
        """
        return _take(self._ranks[self._accuracy_column(dataset, split, epochs)], number)

    def parameters(self, number: jax.Array) -> jax.Array:
        """Parameters of the CIFAR-10 network in millions (C=16, N=5), float32 ``[...]``."""
        return self._first_of(_PARAMETERS, number)

    def flops(self, number: jax.Array) -> jax.Array:
        """Floating point operations of one CIFAR-10 image in millions, float32 ``[...]``.

        The published ones (``flops_m_c10``) are multiply-adds, and one more for each class; see
        `dnas.costs.count_multiply_adds`. The column ``flops_m_c10_fit`` also counts three for every
        element that a convolution's ReLU and normalisation pass, and nine for every pooled one.
        """
        return self._first_of(_FLOPS, number)

    def latency(self, number: jax.Array, device: str) -> jax.Array:
        """Latency on one of the `devices` in milliseconds, float32 ``[...]``."""
        if device not in self.devices:
            raise ValueError(f"no latency on device {shown(device)}; the table has {self.devices}")
        return _take(self._columns[_LATENCY + device], number)

    def _accuracy_column(self, dataset: str, split: str, epochs: int) -> str:
        column = f"{_DATASETS.get(dataset)}_{split}_{epochs}ep"
        if column not in self._ranks:
            names = {short: name for name, short in _DATASETS.items()}
            known = [
                f"{names[short]} {split} {epochs}"
                for short, split, epochs in (
                    found.groups() for found in map(_ACCURACY.fullmatch, self._ranks) if found
                )
            ]
            raise ValueError(
                f"no accuracy of data set {shown(dataset)}, split {shown(split)} after "
                f"{shown(epochs)} epochs;"
                f" the table has {', '.join(known)}"
            )
        return column

    def _first_of(self, names: tuple[str, ...], number: jax.Array) -> jax.Array:
        for name in names:
            if name in self._columns:
                return _take(self._columns[name], number)
        raise ValueError(f"the table has no column {' or '.join(map(repr, names))}")


def _take(values: jax.Array, number: jax.Array) -> jax.Array:
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


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The columns of the file that are known, by number of the architecture."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no NAS-Bench-201 table at {str(path)!r}: give the path of its CSV file"
            " (dnas.benchmarks.nas_bench_201 documents the format and how to export it)"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns, seen = _read_lines(csv.reader(file, strict=True), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    if len(seen) != SIZE:
        missing = next(number for number in range(SIZE) if number not in seen)
        raise ValueError(
            f"{path} has {len(seen)} architectures, expected all {SIZE}; missing is for instance"
            f" {NASBench201.genotype(missing)['cell']}"
        )
    _check_per_cent(columns, path)
    return columns


def _read_lines(reader: Any, path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[int, int]]:
    """The columns, and the line of each architecture."""
    lines = _rows(reader, path)
    header = [name.strip() for name in next(lines, [])]
    known = _known_columns(header, path)
    columns = {name: np.full(SIZE, np.nan, np.float32) for name in known}
    seen: dict[int, int] = {}
    for cells in lines:
        if not cells:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(cells) != len(header):
            raise ValueError(f"{where} has {len(cells)} cells, expected {len(header)}")
        number = _number(cells[header.index("arch_str")], where)
        if number in seen:
            raise ValueError(f"{where}: the architecture of line {seen[number]} occurs again")
        seen[number] = reader.line_num
        for name, position in known.items():
            columns[name][number] = _value(cells[position], name, where)
    return columns, seen


def _rows(reader: Any, path: pathlib.Path) -> Iterator[list[str]]:
    """The rows of the file; ValueError names the line of one that is no CSV."""
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}: is a quote left open before it?"
        ) from error


def _check_per_cent(columns: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Refuses accuracies from 0 to 1: of all architectures, some are better than 1 %."""
    for name, values in columns.items():
        if _ACCURACY.fullmatch(name) and values.max() <= 1:
            raise ValueError(
                f"{path}: column {name!r} goes from {values.min():g} to {values.max():g}, which "
                "looks like fractions; accuracies are in per cent: multiply the column by 100"
            )


def _known_columns(header: list[str], path: pathlib.Path) -> dict[str, int]:
    """The positions of the numeric columns that are known."""
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise ValueError(f"{path} has columns of the same name: {shown(sorted(twice))}")
    if "arch_str" not in header:
        raise ValueError(f"{path} has no column 'arch_str'; it has {shown(header)}")
    if not any(map(_ACCURACY.fullmatch, header)):
        raise ValueError(
            f"{path} has no column of accuracies, such as 'c10_test_200ep'; it has {shown(header)}"
        )
    return {
        name: position
        for position, name in enumerate(header)
        if _ACCURACY.fullmatch(name) or name in _PARAMETERS + _FLOPS or name.startswith(_LATENCY)
    }


def _number(text: str, where: str) -> int:
    try:
        return NASBench201.number(parse_nas_bench_201(text))
    except ValueError as error:
        raise ValueError(f"{where}: malformed architecture {shown(text)}: {error}") from error


def _value(text: str, column: str, where: str) -> float:
    """The number in a cell: an accuracy from 0 to 100, or a cost from 0 on."""
    accuracy = _ACCURACY.fullmatch(column)
    value = float(text) if _NUMERAL.fullmatch(text.strip()) else -1.0
    if not 0 <= value <= (100 if accuracy else _LARGEST):
        expected = "an accuracy in per cent, 0 to 100" if accuracy else "a finite number from 0 on"
        raise ValueError(f"{where}: column {column!r} must be {expected}, got {shown(text)}")
    return value
