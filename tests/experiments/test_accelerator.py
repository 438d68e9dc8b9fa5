"""The benchmark of an accelerator, rehearsed on the CPU."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

from experiments.benchmarks import accelerator_plan, launches, process
from experiments.benchmarks.settings import Settings

ROOT = pathlib.Path(__file__).parents[2]


def plane(name, **lines):
    made = [types.SimpleNamespace(name=n.replace("_", " "), events=e) for n, e in lines.items()]
    return types.SimpleNamespace(name=name, lines=made)


def test_launches_are_what_ran_on_streams():
    host = plane("/host:CPU", python="abc")
    gpu = plane("/device:GPU:0", Stream_7="ab", Stream_9="c", XLA_Modules="d")
    tpu = plane("/device:TPU:0", XLA_Ops="abcd", Steps="a")
    assert launches.of_planes([host]) is None
    assert launches.of_planes([host, gpu]) == 3
    assert launches.of_planes([tpu]) == 4


def test_what_takes_too_long_or_fails_is_told(tmp_path):
    log = tmp_path / "log.txt"
    slow = accelerator_plan.run(["-c", "import time; print(1, flush=True); time.sleep(60)"], 2, log)
    assert slow == ("1\n", "out of time after 2 s")
    failing = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    assert accelerator_plan.run(["-c", failing], 60, log) == ("", "exit code 3")
    assert accelerator_plan.run(["-c", "import os; os.abort()"], 60, log) == ("", "exit code -6")
    assert accelerator_plan.run(["-c", ""], -1, log) == ("", "out of time")
    assert "why" in log.read_text()


def test_rows_of_the_table():
    facts = {"trace": 1.0, "compile": 2.0, "temporary": 3e9, "peak": 4e9, "launches": 5000}
    sides = {"ours": (0.5, 0.4, 0.6), "torch_nchw": (1.0, 0.9, 1.1)}
    good = {"name": "a", "kind": "step", "failure": "", "sides": sides, "device": "chip", **facts}
    lines = accelerator_plan.summary(
        [good, {"name": "b", "kind": "step", "failure": "exit code -6"}]
    )
    assert lines.splitlines()[0] == "# chip"
    assert "| a | ours | 1 | 2 | 0.5 (0.4-0.6) | 1 | 3 | 4 | 5,000 |" in lines
    assert "| a | torch_nchw |  |  | 1 (0.9-1.1) | 2 |  |  |  |" in lines
    assert "| b | exit code -6 |" in lines


def test_its_cases_can_be_made():
    for case in accelerator_plan.cases(quick=False):
        if case.kind == "step":
            settings = Settings(**case.settings)
            assert settings.make_space().name == settings.space
            assert set(case.sides) <= set(process.REFERENCES)
        for path in case.settings.get("files", ()):
            assert (ROOT / path).is_file(), path


@pytest.mark.slow
def test_rehearsal(tmp_path):
    """The command whole: every kind of case, on tiny supernets."""
    command = ["experiments/benchmarks/accelerator.sh", f"--out={tmp_path}", "--minutes=30"]
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([*command, "--device=cpu", "--quick"], cwd=ROOT, env=environment, check=True)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").open()]
    assert [r["kind"] for r in results] == ["step", "search", "tests"]
    assert not any(r["failure"] for r in results), (tmp_path / "log.txt").read_text()[-3000:]
    for result in results:
        if result["kind"] == "step":
            median, least, most = result["sides"]["ours"]
            assert 0 < least <= median <= most
            assert result["temporary"] > 0 and result["peak"] > 0
    assert results[1]["genotype"].startswith("|") and results[1]["accuracy"] is None
    assert "passed" in results[-1]["last"] and "passed" in (tmp_path / "tests.txt").read_text()
    assert "| NAS-Bench-201, float32 | ours |" in (tmp_path / "summary.md").read_text()
