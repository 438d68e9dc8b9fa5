"""Kernels that an accelerator ran, from a profile."""

import pathlib
from collections.abc import Iterable
from typing import Any

import jax


def count(folder: str) -> int | None:
    """The number of kernels on devices; None where the profile has no device.

    Args:
      folder: of a profile that `jax.profiler.trace` wrote.
    """
    files = sorted(pathlib.Path(folder).rglob("*.xplane.pb"))
    return of_planes(p for f in files for p in jax.profiler.ProfileData.from_file(str(f)).planes)


def of_planes(planes: Iterable[Any]) -> int | None:
    """As `count`, of the planes of `jax.profiler.ProfileData`."""
    lines = [line for p in planes if p.name.startswith("/device:") for line in p.lines]
    if not lines:
        return None
    # GPUs have a line for each stream, TPUs one of operations; others repeat these by module.
    own = [line for line in lines if line.name.startswith("Stream") or line.name == "XLA Ops"]
    return sum(1 for line in own for _ in line.events)
