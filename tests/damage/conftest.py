"""Runs that are made once and damaged in copies."""

import shutil

import pytest
from tiny_runs import RUNS, newest

from dnas.jobs import result


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Pictures are never read."""
    monkeypatch.setattr(result, "_draw", lambda *_: None)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """For each job its command, its directory when it is done, and what it returned."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw", lambda *_: None)
        for name, run in RUNS.items():
            folder = tmp_path_factory.mktemp(name)
            made[name] = run, folder, run(folder)
    # A search that was killed after the last epoch's files, before its checkpoint.
    run, folder, returned = made["search"]
    half = shutil.copytree(folder, tmp_path_factory.mktemp("half") / "search")
    for gone in ("genotype.json", "report.json", "selection.json", "selection.jsonl"):
        (half / gone).unlink()
    shutil.rmtree(half / "selection")
    shutil.rmtree(newest(half))
    made["half"] = run, half, returned
    return made
