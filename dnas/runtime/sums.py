"""What steps measure: numbers and arrays that add up, by nested names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Sums = Mapping[str, Any]
JOINT = "/"  # between the names of nested sums, as checkpoints store them


def means(sums: Sums, steps: int) -> dict[str, float]:
    """The mean of every number over the steps."""
    every = flat(sums)
    return {name.replace(JOINT, "_"): float(value) / steps for name, value in every.items()}


def flat(sums: Sums, before: str = "") -> dict[str, Any]:
    """Nested sums by one name each: ``{'train/loss': ...}``."""
    found = {}
    for name, value in sums.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{before}{name}{JOINT}") if inner else {before + name: value}
    return found


def nested(sums: Mapping[str, Any]) -> dict[str, Any]:
    """What `flat` made flat."""
    found: dict[str, Any] = {}
    for name, value in sums.items():
        *outer, last = name.split(JOINT)
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = np.asarray(value) if isinstance(value, list) else value
    return found
