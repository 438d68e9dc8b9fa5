"""One case of `experiments.benchmarks.accelerator`, in a process of its own.

    python -m experiments.benchmarks.accelerator_case step '{"dtype": "tf32"}' torch_nchw

prints a line of JSON.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax

import dnas
from experiments.benchmarks import launches, process
from experiments.benchmarks.settings import Ours, Settings
from experiments.benchmarks.step import alternate

STEPS = 7


def compile_only(settings: dict[str, Any]) -> dict[str, Any]:
    """Leaves the program of a step in the cache."""
    return Ours(Settings(**settings)).compile()


def step(settings: dict[str, Any], *others: str) -> dict[str, Any]:
    """Seconds of a step of ours and of other sides, taken in turn.

    Args:
      settings: of `Settings`.
      *others: sides in PyTorch; those that cannot be made are told under ``'missing'``.

    Returns:
      ``sides``, median and range in seconds; ``trace`` and ``compile``, seconds; ``temporary`` and
      ``peak``, bytes; ``launches`` of kernels in a step, None where the profile does not tell;
      ``device``.
    """
    made = Settings(**settings)
    ours = Ours(made)
    facts: dict[str, Any] = ours.compile()
    sides, missing = {process.OURS: ours.step}, {}
    for side in others:
        try:
            sides[side] = _reference(side, made)
        except (ImportError, RuntimeError) as error:
            missing[side] = str(error)
    seconds = alternate(sides, STEPS)
    facts["sides"] = {n: (statistics.median(t), min(t), max(t)) for n, t in seconds.items()}
    facts["temporary"] = ours.compiled.memory_analysis().temp_size_in_bytes
    memory = jax.local_devices()[0].memory_stats() or {}
    facts["peak"] = memory.get("peak_bytes_in_use", process.resident())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            ours.step()
        facts["launches"] = launches.count(folder)
    return facts | {"missing": missing, "device": jax.devices()[0].device_kind}


def _reference(side: str, made: Settings) -> Callable[[], float]:
    """A step in PyTorch on the same device.

    Raises:
      ImportError: PyTorch is not installed.
      RuntimeError: it would run on the CPU while ours does not.
    """
    step = process.reference(side, made)
    import torch

    if jax.default_backend() != "cpu" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch has no such device here")
    return step


def search(settings: dict[str, Any]) -> dict[str, Any]:
    """A short search in NAS-Bench-201.

    Args:
      settings: ``epochs``; ``quick``; ``data``, an archive or None for the digits; ``table``, the
        benchmark's, or None.

    Returns:
      ``genotype``; ``seconds_to_search``, with what compiles; ``accuracy`` of the found cell on
      CIFAR-10 by the table, in per cent, None without one.
    """
    sizes = {"channels": 4, "cells": 1, "stages": 2} if settings["quick"] else {}
    space = dnas.spaces.NASBench201(**sizes)
    archive = settings["data"]
    data = dnas.data.from_npz(archive) if archive else dnas.data.digits()
    start = time.perf_counter()
    preset = dnas.presets.darts(alpha_learning_rate=3e-3)
    result = dnas.search(space, data, preset, epochs=settings["epochs"], progress=False)
    seconds = time.perf_counter() - start
    accuracy = None
    if settings["table"]:
        table = dnas.benchmarks.NASBench201(settings["table"])
        accuracy = table.look_up(result.genotype, "cifar10")["test_accuracy"]
    return {
        "genotype": space.format(result.genotype),
        "seconds_to_search": seconds,
        "accuracy": accuracy,
    }


KINDS = {"compile": compile_only, "step": step, "search": search}

if __name__ == "__main__":
    kind, given, *rest = sys.argv[1:]
    print(json.dumps(KINDS[kind](json.loads(given), *rest)))
