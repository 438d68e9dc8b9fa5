"""What is measured of an accelerator, how each case runs, and the table that comes of it."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, NamedTuple

CHILD = "experiments.benchmarks.accelerator_case"
CORES = 4  # of one compiler
QUICK_TEST = "tests/nn/kernels/test_pool.py"
TESTS = (
    QUICK_TEST,
    "tests/test_arithmetic.py",
    "tests/nn/kernels/test_conv.py",
    "tests/nn/kernels/test_norm.py",
    "tests/gradient/test_hypergrad.py",
    "tests/gradient/test_bilevel.py",
)


class Case(NamedTuple):
    """One measurement.

    Attributes:
      name: of its row.
      kind: ``'step'``, ``'search'`` or ``'tests'``.
      settings: of `experiments.benchmarks.settings.Settings`, or of the search.
      sides: what is measured beside ours; see `experiments.benchmarks.process.REFERENCES`.
      limit: seconds after which it is given up.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    sides: tuple[str, ...] = ()
    limit: float = 100.0


def cases(quick: bool) -> list[Case]:
    """All measurements, the most telling first."""
    tiny = {"channels": 4, "cells": 1, "size": 8, "batch": 4} if quick else {}
    dtypes = ("float32",) if quick else ("float32", "tf32", "bfloat16")
    eager = ("torch_nchw", "torch_channels_last")

    def step(name: str, *sides: str, limit: float = 60.0, **settings: Any) -> Case:
        return Case(name, "step", {**tiny, **settings}, sides, limit)

    found = [step(f"NAS-Bench-201, {d}", *eager, dtype=d) for d in dtypes]
    found.append(
        Case("search", "search", {"epochs": 1 if quick else 3, "quick": quick}, limit=150.0)
    )
    if quick:  # what compiles for long, or as those before, is left out
        found.append(Case("tests", "tests", {"files": [QUICK_TEST]}))
        return [case._replace(limit=float("inf")) for case in found]
    found += [step(f"DARTS, {d}", *eager, space="darts", dtype=d, limit=100.0) for d in dtypes]
    found += [
        step(f"NAS-Bench-201, {n} seeds", dtype="bfloat16", population=n, limit=45.0)
        for n in (2, 4, 8, 16)
    ]
    single = {"relaxation": "gumbel", "single_path": True}
    found += [
        Case("tests", "tests", {"files": list(TESTS)}),
        step("NAS-Bench-201, single path", *eager, dtype="tf32", **single),
        step("NAS-Bench-201, second order", dtype="tf32", hypergradient="unrolled"),
        step("NAS-Bench-201, batch 256", *eager, dtype="bfloat16", batch=256),
        step("NAS-Bench-201, compiled PyTorch", "torch_compiled", dtype="tf32", limit=100.0),
        step("DARTS, compiled PyTorch", "torch_compiled", space="darts", dtype="tf32"),
    ]
    return found


def run(command: list[str], limit: float, log: pathlib.Path) -> tuple[str, str]:
    """Runs a command.

    Args:
      command: what to run, with this interpreter.
      limit: seconds after which it is killed.
      log: the file that gets what it writes to its standard error.

    Returns:
      What it printed, and how it failed; the latter is empty if it did not.
    """
    if limit <= 0:
        return "", "out of time"
    with log.open("ab") as errors:
        try:
            done = subprocess.run(
                [sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, timeout=limit
            )
        except subprocess.TimeoutExpired as stopped:
            return (stopped.stdout or b"").decode(), f"out of time after {limit:.0f} s"
    return done.stdout.decode(), f"exit code {done.returncode}" if done.returncode else ""


def command_of(case: Case) -> list[str]:
    """What measures a case."""
    if case.kind == "tests":
        return ["-m", "pytest", "-p", "no:cacheprovider", *case.settings["files"]]
    return ["-m", CHILD, case.kind, json.dumps(case.settings), *case.sides]


def compile_all(all_cases: list[Case], seconds: float, log: pathlib.Path) -> None:
    """Compiles our programs of all cases side by side, for as long; what fails is silent here."""
    workers = len(os.sched_getaffinity(0)) // CORES
    end = time.monotonic() + seconds
    steps = [case for case in all_cases if case.kind == "step"]
    if workers < 2:
        return

    def work(case: Case) -> None:
        command = ["-m", CHILD, "compile", json.dumps(case.settings)]
        run(command, end - time.monotonic(), log)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, steps))


def measure(case: Case, limit: float, out: pathlib.Path) -> dict[str, Any]:
    """The facts about one case."""
    began = time.monotonic()
    printed, failure = run(command_of(case), min(limit, case.limit), out / "log.txt")
    facts: dict[str, Any] = {"name": case.name, "kind": case.kind, "settings": case.settings}
    if case.kind == "tests":
        (out / "tests.txt").write_text(printed)
        facts["last"] = next((x for x in reversed(printed.splitlines()) if " in " in x), "")
    elif not failure:
        facts |= json.loads(printed.splitlines()[-1])
    return facts | {"failure": failure, "seconds": time.monotonic() - began}


def summary(results: list[dict[str, Any]]) -> str:
    """The table of what is known."""
    columns = "case|side|lower, s|compile, s|step, s|ratio|temporary, GB|peak, GB|launches"
    lines = [f"| {columns.replace('|', ' | ')} |", "|---" * 9 + "|"]
    notes = []
    for result in results:
        name, sides = result["name"], result.get("sides", {})
        if result["failure"]:
            lines.append(f"| {name} | {result['failure']} |" + " |" * 7)
        elif result["kind"] == "step":
            lines += [_row(name, side, result, sides) for side in sides]
        if result["kind"] != "step":
            said = {k: v for k, v in result.items() if k not in ("name", "kind", "settings")}
            notes.append(f"- {name}: {json.dumps(said)}")
        elif missing := result.get("missing"):
            notes += [f"- {name}, {side}: {reason}" for side, reason in missing.items()]
    device = next((r["device"] for r in results if "device" in r), "unknown device")
    return "\n".join([f"# {device}", "", *lines, "", *notes, ""])


def _row(name: str, side: str, result: dict[str, Any], sides: dict[str, Any]) -> str:
    median, least, most = sides[side]
    ratio = median / sides["ours"][0]
    timing = f"{median:.3g} ({least:.3g}-{most:.3g})"
    cells = [name, side, "", "", timing, f"{ratio:.3g}", "", "", ""]
    if side == "ours":
        cells[2:4] = [f"{result[key]:.3g}" for key in ("trace", "compile")]
        cells[6:8] = [f"{result[key] / 1e9:.3g}" for key in ("temporary", "peak")]
        cells[8] = "" if result["launches"] is None else f"{result['launches']:,}"
    return "| " + " | ".join(cells) + " |"
