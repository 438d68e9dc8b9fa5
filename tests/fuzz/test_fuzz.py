"""Some thousand inputs: none may end in a traceback, hang, or be accepted though it is bad.

They are the same in every run. DNAS_FUZZ=10 takes ten times as many, DNAS_FUZZ_SEED others;
``pytest -s`` prints how many are of each class.
"""

import functools
import os
import random

import pytest
from fuzz import arguments, configs, genotypes, outcomes, tables

from dnas.data import sources
from dnas.jobs import search, train

TIMES = float(os.environ.get("DNAS_FUZZ", "1"))
SEED = int(os.environ.get("DNAS_FUZZ_SEED", "0"))
NUMBERS = {"genotypes": 413, "configs": 383, "arguments": 187, "tables": 66}


class Accepted(BaseException):
    """What follows would compile; no handler of ordinary errors catches it."""


@pytest.fixture
def checked_only(monkeypatch):
    """Ends jobs where their arguments are checked."""

    def accept(*_, **__):
        raise Accepted

    monkeypatch.setattr(search, "open_workdir", accept)
    monkeypatch.setattr(train, "Trainer", accept)
    monkeypatch.setattr(sources, "digits", functools.cache(sources.digits))


def accepting(given: outcomes.Input) -> outcomes.Input:
    """The same input; getting as far as compiling is an answer."""

    def give():
        try:
            given.give()
        except Accepted:
            return

    return given._replace(give=give)


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_input_gets_an_answer(kind, checked_only, tmp_path):
    rng, number = random.Random(f"{kind} {SEED}"), round(TIMES * NUMBERS[kind])
    if kind == "tables":
        inputs = tables.inputs(rng, number, tmp_path)
    else:
        inputs = {"genotypes": genotypes, "configs": configs, "arguments": arguments}[kind].inputs(
            rng, number
        )
    counts, faults = outcomes.count(map(accepting, inputs))
    print(f"{kind}: {dict(counts)}")
    assert counts.total() == number
    assert not faults, f"{dict(counts)}:\n" + "\n".join(faults)
