"""Checks that several spaces share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnas import checks
from dnas.checks import shown
from dnas.genotype import Genotype
from dnas.nn import operations
from dnas.space import Decision, Mixing
from dnas.spaces.parts import Part
from dnas.tasks.task import Task

# Generous: a supernet at all of these bounds outgrows the memory of any machine by far.
_MOST = {"channels": 4096, "cells": 1000, "nodes": 16, "stages": 8, "stem_multiplier": 64}


def check_counts(space: Any, *fields: str, least: int = 1) -> None:
    """Raises ValueError unless these fields of a space are whole numbers that can be built."""
    for field in fields:
        checks.whole(
            *(field, getattr(space, field), least, _MOST[field]),
            reason="since a supernet beyond that needs more memory than machines have",
        )


def check_candidates(where: str, candidates: tuple[str, ...]) -> None:
    """Raises ValueError unless a row has distinct, known candidates, one of them a connection."""
    if not isinstance(candidates, tuple) or not all(isinstance(c, str) for c in candidates):
        raise ValueError(f"{where}: expected a tuple of operations, got {shown(candidates)}")
    operations.require(candidates)
    if len(set(candidates)) < len(candidates):
        raise ValueError(f"{where} has a candidate twice: {candidates}")
    if not operations.connections(candidates):
        raise ValueError(f"{where} has no candidate that is a connection: {candidates}")


def check_part(part: Part) -> None:
    """Raises ValueError unless every edge of a part has candidates, as `check_candidates` says."""
    if not isinstance(part.candidates, tuple):
        raise ValueError(
            f"{part.name}: expected a tuple of candidates for each edge, got "
            f"{shown(part.candidates)}"
        )
    if len(part.candidates) != len(part.rows):
        raise ValueError(
            f"{part.name} names candidates for {len(part.candidates)} edges; a cell of "
            f"{part.nodes} nodes has {len(part.rows)}"
        )
    for row, edge in zip(part.rows, part.candidates, strict=True):
        check_candidates(f"edge {row!r} of {part.name}", edge)


def check_mixing(mixing: Mixing, channels: int, even: bool = False) -> None:
    """Raises ValueError unless cells of that many channels can be mixed so.

    Args:
      mixing: how candidates are mixed.
      channels: of the first cells.
      even: whether the operations need an even number of channels.
    """
    if not isinstance(mixing, Mixing):
        raise ValueError(f"mixing={shown(mixing)}: expected a dnas.space.Mixing")
    checks.whole("mixing.partial", mixing.partial)
    for field, value in mixing._asdict().items():
        if field != "partial":
            checks.true_or_false(f"mixing.{field}", value)
    multiple = mixing.partial * (2 if even else 1)
    if channels % multiple:
        raise ValueError(
            f"the space's channels={channels}: expected a multiple of {multiple}, since "
            f"mixing.partial={mixing.partial}"
        )


def check_call(mixing: Mixing, key: Any, auxiliary_skip: Any, skip_dropout: Any) -> None:
    """Raises ValueError unless a supernet can be called with these arguments."""
    if auxiliary_skip is not None and not mixing.auxiliary_skip:
        raise ValueError(
            "auxiliary_skip is given, but this supernet has no auxiliary skip connections: build "
            "its space with mixing=Mixing(auxiliary_skip=True)"
        )
    if skip_dropout is not None and key is None:
        raise ValueError("skip_dropout needs a PRNG key: call the supernet with key=")


def check_headless(space: str, auxiliary: bool) -> None:
    """Raises ValueError where an auxiliary head is asked for, which networks of a space lack."""
    if auxiliary:
        raise ValueError(f"the space {space!r} has no auxiliary head; leave it off")


def check_images(space: str, task: Task) -> None:
    """Raises ValueError unless a task is about images, which networks of a space read."""
    inputs = task.inputs
    if len(inputs.shape) != 3:
        raise ValueError(
            f"the space {space!r} reads images, but the examples of the task {task.name!r} are "
            f"{inputs.dtype} of the shape {inputs.shape}; take data of images, or another space"
        )


def check_tokens(space: str, task: Task) -> None:
    """Raises ValueError unless a task is about sequences of tokens, likewise."""
    inputs = task.inputs
    if len(inputs.shape) != 1 or not np.issubdtype(inputs.dtype, np.integer):
        raise ValueError(
            f"the space {space!r} reads tokens, but the examples of the task {task.name!r} are "
            f"{inputs.dtype} of the shape {inputs.shape}; take a text, such as "
            "dnas.data.from_text(path), or another space"
        )


def check_choices(genotype: Genotype, space: str, parts: tuple[str, ...]) -> None:
    """Raises ValueError unless a genotype names this space and has exactly these parts."""
    if genotype.space != space:
        raise ValueError(
            f"this genotype belongs to the space {shown(genotype.space)}, expected {space!r}"
        )
    if sorted(genotype.parts()) != sorted(parts):
        raise ValueError(f"expected the parts {parts}, got {shown(genotype.parts())}")


def check_rows(genotype: Genotype, space: str, decisions: Mapping[str, Decision]) -> None:
    """Raises ValueError unless a genotype chooses an option for every row of every table.

    Args:
      genotype: the architecture.
      space: name of the space.
      decisions: its tables.
    """
    tables = [decision for decision in decisions.values() if decision.chooses]
    parts = tuple(dict.fromkeys(table.part for table in tables))
    check_choices(genotype, space, parts)
    for part in parts:
        known = {row: t.options for t in tables if t.part == part for row in t.rows}
        if set(genotype[part]) != set(known):
            raise ValueError(
                f"expected the rows {tuple(known)}, got {shown(tuple(genotype[part]))}"
            )
        for row, option in genotype[part].items():
            if option not in known[row]:
                raise ValueError(
                    f"{row!r} of {part} has the option {shown(option)}; "
                    f"expected one of {known[row]}"
                )
