"""Tables of numbers and words, of which one column is to be predicted from the others."""

import collections
import csv
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dnas import checks
from dnas.checks import did_you_mean, shown
from dnas.data.batched import Batched
from dnas.data.dataset import ArraySource, Split, describe_split
from dnas.tasks import Augment
from dnas.tasks.augment import NOTHING
from dnas.tasks.regression import Regression

MISSING = ("", "?", "na", "n/a", "nan", "none", "null")  # in small letters
MOST_CATEGORIES = 50  # of a column of words
_SPLIT = 0  # seed of the permutation that tells the test split
_SHOWN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Table(Batched):
    """A table of numbers.

    Attributes:
      name: the set's name.
      train: what search and training may use: ``row``, float32 ``[N, columns]``, and ``target``,
        float32 ``[N]``.
      test: likewise, for the final evaluation of a trained network alone.
      columns: names of the numbers in a row.
      target: name of the number to predict.
      indicators: so many of the columns, the last ones, are 0 or 1; they are not normalised.
    """

    columns: tuple[str, ...]
    target: str
    indicators: int = 0

    def __repr__(self) -> str:
        return f"Table({self.summary})"

    @property
    def summary(self) -> str:
        """The set in a line: name, columns, target, splits."""
        return (
            f"{self.name}, {len(self.columns)} numbers a row, target {self.target!r}, "
            f"{len(self.train):,} train rows, {len(self.test):,} test rows"
        )

    def task(self, augment: Augment | None = None, *, measured: bool = True) -> Regression:
        """To predict the target; there are no augmentations of rows.

        Raises:
          ValueError: there is an augmentation.
        """
        if augment not in (None, NOTHING):
            raise ValueError(
                f"augment={shown(augment)}: expected Augment(), which changes nothing, since a "
                "table has no images"
            )
        if not measured:
            return Regression(self.columns, self.target)
        return Regression(self.columns, self.target, *self._statistics)

    @functools.cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...], float, float]:
        """Means and standard deviations of columns and target, of the train split."""
        rows = self.train.arrays["row"].astype(np.float64)
        mean, std = rows.mean(0), rows.std(0)
        std[std == 0] = 1  # a column that never changes
        first = len(self.columns) - self.indicators
        mean[first:], std[first:] = 0, 1
        target = self.train.arrays["target"].astype(np.float64)
        return tuple(mean.tolist()), tuple(std.tolist()), float(target.mean()), float(target.std())

    def check(self) -> None:
        """Raises ValueError where all targets are one number."""
        if len(np.unique(self.train.column("target"))) < 2:
            raise ValueError(
                f"the target {self.target!r} of {self.name!r} is one number in all train rows: "
                "there is nothing to predict"
            )

    def describe(self) -> dict[str, Any]:
        """See `dnas.data.Dataset.describe`."""
        return {
            "name": self.name,
            "columns": list(self.columns),
            "target": self.target,
            "train": describe_split(self.train),
            "test": describe_split(self.test),
        }


def from_csv(
    path: str | os.PathLike,
    target: str,
    *,
    drop: Sequence[str] = (),
    test_share: float = 0.2,
) -> Table:
    """A data set of a CSV file, whose first line names the columns.

    Which rows are the test split is drawn once, by a permutation that depends on the number of
    rows alone. Missing entries are empty, or ``NA``, ``NaN``, ``null``, ``None``, ``?``. In a
    column of numbers they become the median of the train rows. Any other column holds categories:
    each that occurs in the train rows becomes a column of its own, 1 where it stands and 0
    elsewhere; a missing entry is a category, too.

    Args:
      path: the file, UTF-8; commas, semicolons or tabs separate entries.
      target: name of the column to predict, a number in every row.
      drop: names of columns to leave out.
      test_share: of the rows.

    Returns:
      The data set, numbers first; its name is the file's without the ending.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no such table, lacks a column or has an entry that cannot be used; the
        message names file, line and column.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file")
    if not checks.is_fraction(test_share) or not test_share:
        raise ValueError(f"test_share={shown(test_share)}: expected above 0 and below 1")
    try:
        names, lines = _read(path)
        return _table(path.stem, names, lines, target, drop, test_share)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"path={str(path)!r} is no CSV file of text: {error}") from error
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error


def _read(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Names of columns, and the entries of each line below them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        lines = list(csv.reader(file, delimiter=delimiter, skipinitialspace=True))
    if not lines or len(names := [name.strip() for name in lines[0]]) < 2:
        raise ValueError("expected a first line with the names of two columns or more")
    if len(set(names)) < len(names):
        [(twice, _)] = collections.Counter(names).most_common(1)
        raise ValueError(f"two columns are called {twice!r}")
    for number, line in enumerate(lines, 1):
        if line and len(line) != len(names):
            raise ValueError(f"line {number} has {len(line)} entries; expected {len(names)}")
    return names, [[entry.strip() for entry in line] for line in lines[1:] if line]


def _table(
    name: str,
    names: list[str],
    lines: list[list[str]],
    target: str,
    drop: Sequence[str],
    test_share: float,
) -> Table:
    """The data set of entries; see `from_csv`."""
    if isinstance(drop, str):
        raise ValueError(f"drop={shown(drop)}: expected a list of names, such as [{drop!r}]")
    for key, wanted in (("target", target), *(("drop", column) for column in drop)):
        if wanted not in names:
            hint = did_you_mean(str(wanted), names)
            raise ValueError(f"{key}={shown(wanted)}: expected one of {', '.join(names)}{hint}")
    columns = dict(zip(names, zip(*lines, strict=True), strict=True)) if lines else {}
    order = np.random.default_rng((_SPLIT, len(lines))).permutation(len(lines))
    cut = round(test_share * len(lines))
    if not 1 <= cut <= len(lines) - 2:
        raise ValueError(f"{len(lines)} rows are too few for a train and a test split")
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    targets = _numbers(target, columns.pop(target))
    if targets is None or np.isnan(targets).any():
        raise ValueError(_no_target(target, [line[names.index(target)] for line in lines]))
    numbers, indicators = {}, {}
    for column, entries in columns.items():
        if column not in drop:
            values = _numbers(column, entries)
            if values is None:
                indicators |= _categories(column, entries, train)
            else:
                numbers[column] = _filled(column, values, train)
    if not numbers and not indicators:
        raise ValueError("no column is left to predict the target from")
    found = numbers | indicators
    rows = np.stack(list(found.values()), 1).astype(np.float32)
    targets = targets.astype(np.float32)
    first, second = (
        Split.all(ArraySource({"row": rows[some], "target": targets[some]}))
        for some in (train, test)
    )
    return Table(name, first, second, tuple(found), target, len(indicators))


def _missing(entry: str) -> bool:
    return entry.lower() in MISSING


def _numbers(column: str, entries: Sequence[str]) -> np.ndarray | None:
    """Entries as float64, NaN where they are missing; None where they are no numbers.

    Raises:
      ValueError: a number is infinite in float32.
    """
    try:
        values = np.array([math.nan if _missing(e) else float(e) for e in entries])
    except ValueError:
        return None
    if np.isnan(values).all():
        return None
    if (odd := np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)).size:
        raise ValueError(f"row {odd[0] + 1} of {column!r} is {entries[odd[0]]}: expected less")
    return values


def _no_target(target: str, entries: Sequence[str]) -> str:
    """What is wrong with a target that is not a number everywhere."""
    odd = [(i, entry) for i, entry in enumerate(entries, 1) if _is_no_number(entry)]
    row, entry = odd[0]
    more = f", and {len(odd) - 1:,} more such rows" if len(odd) > 1 else ""
    what = "is missing" if _missing(entry) else f"is {shown(entry)}"
    return (
        f"target={target!r} {what} in row {row}{more}: expected a number in every row; take out "
        "those rows, or name another column"
    )


def _is_no_number(entry: str) -> bool:
    try:
        return not math.isfinite(float(entry))
    except ValueError:
        return True


def _filled(column: str, values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Numbers with the median of the train rows where they are missing."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    known = values[train][~gaps[train]]
    if not known.size:
        raise ValueError(f"the column {column!r} has no number in any train row: drop it")
    return np.where(gaps, np.median(known), values)


def _categories(column: str, entries: Sequence[str], train: np.ndarray) -> dict[str, np.ndarray]:
    """A column of zeros and ones for each category of the train rows, in the order of letters."""
    words = np.array(["" if _missing(entry) else entry for entry in entries])
    found = np.unique(words[train])
    if len(found) > MOST_CATEGORIES:
        few = ", ".join(map(repr, found[:_SHOWN].tolist()))
        raise ValueError(
            f"the column {column!r} holds {len(found):,} categories in the train rows ({few}, "
            f"...); expected numbers, or at most {MOST_CATEGORIES} categories: drop it by drop="
            f"({column!r},)"
        )
    return {f"{column}={word or '(missing)'}": words == word for word in found.tolist()}
