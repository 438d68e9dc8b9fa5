"""dnas: differentiable neural architecture search in JAX."""

import importlib
from typing import Any

from dnas import data, gradient, presets, spaces, tasks
from dnas._version import __version__
from dnas.genotype import Genotype
from dnas.gradient import hypergrad, relax
from dnas.space import Decision, SearchSpace
from dnas.tasks import Task

__all__ = [
    "Decision",
    "Genotype",
    "SearchSpace",
    "Task",
    "__version__",
    "benchmarks",
    "costs",
    "data",
    "evaluate",
    "evaluators",
    "gradient",
    "hypergrad",
    "presets",
    "relax",
    "search",
    "selection",
    "spaces",
    "strategies",
    "tasks",
    "testing",
    "train",
    "viz",
]

# Whole jobs, imported when first used: they bring what only they need.
_JOBS = {
    "evaluate": "dnas.jobs.evaluate",
    "open": "dnas.jobs.opened",
    "search": "dnas.jobs.search",
    "train": "dnas.jobs.train",
}

_LATE = ("benchmarks", "costs", "evaluators", "selection", "strategies", "testing", "viz")


def __getattr__(name: str) -> Any:
    if name in _JOBS:
        return getattr(importlib.import_module(_JOBS[name]), name)
    if name in _LATE:
        return importlib.import_module(f"dnas.{name}")
    raise AttributeError(f"module 'dnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_JOBS})  # `import *` leaves Python's own `open` alone
