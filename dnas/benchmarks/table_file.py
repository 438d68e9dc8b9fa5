"""Reads the result table of NAS-Bench-201 from a CSV file."""

import csv
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from dnas.benchmarks import numbering
from dnas.checks import shown
from dnas.spaces.published import parse_nas_bench_201

ACCURACY = re.compile(r"(c10|c100|in16)_(test|valid)_(12|200)ep")
PARAMETERS = ("params_m_c10_analytic", "params_m_c10")
FLOPS = ("flops_m_c10", "flops_m_c10_fit")
SECONDS = "c10_valid_train_seconds_200ep"
LATENCY = "lat_"
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = 1e9  # of a cost, in millions, seconds or milliseconds


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The columns of the file that are known, by number of the architecture.

    Args:
      path: the file; `dnas.benchmarks.nas_bench_201` has its format.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such table; the message names line and column.
    """
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
    if len(seen) != numbering.SIZE:
        missing = next(number for number in range(numbering.SIZE) if number not in seen)
        raise ValueError(
            f"{path} has {len(seen)} architectures, expected all {numbering.SIZE}; missing is for"
            f" instance {numbering.genotype(missing)['cell']}"
        )
    _check_per_cent(columns, path)
    return columns


def _read_lines(reader: Any, path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[int, int]]:
    """The columns, and the line of each architecture."""
    lines = _rows(reader, path)
    header = [name.strip() for name in next(lines, [])]
    known = _known_columns(header, path)
    columns = {name: np.full(numbering.SIZE, np.nan, np.float32) for name in known}
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
        if ACCURACY.fullmatch(name) and values.max() <= 1:
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
    if not any(map(ACCURACY.fullmatch, header)):
        raise ValueError(
            f"{path} has no column of accuracies, such as 'c10_test_200ep'; it has {shown(header)}"
        )
    return {
        name: position
        for position, name in enumerate(header)
        if ACCURACY.fullmatch(name)
        or name in (*PARAMETERS, *FLOPS, SECONDS)
        or name.startswith(LATENCY)
    }


def _number(text: str, where: str) -> int:
    try:
        return numbering.number(parse_nas_bench_201(text))
    except ValueError as error:
        raise ValueError(f"{where}: malformed architecture {shown(text)}: {error}") from error


def _value(text: str, column: str, where: str) -> float:
    """The number in a cell: an accuracy from 0 to 100, or a cost from 0 on."""
    accuracy = ACCURACY.fullmatch(column)
    value = float(text) if _NUMERAL.fullmatch(text.strip()) else -1.0
    if not 0 <= value <= (100 if accuracy else _LARGEST):
        expected = "an accuracy in per cent, 0 to 100" if accuracy else "a finite number from 0 on"
        raise ValueError(f"{where}: column {column!r} must be {expected}, got {shown(text)}")
    return value
