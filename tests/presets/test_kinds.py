"""Every part that the command line knows, on every kind of space."""

import dataclasses
import inspect
import itertools

import pytest
from preset_steps import CELL, build, check_step

from dnas import presets, spaces
from dnas.parts import part
from dnas.presets.kinds import KINDS

CELLS = spaces.DARTS(
    channels=2, cells=3, nodes=1, stem_multiplier=1, operations=("none", "skip_connect")
)
EDGES = (("skip_connect", "avg_pool_3x3"), ("none", "skip_connect", "max_pool_3x3"))
SPACES = {
    "cell": CELL,
    "normal and reduction": CELLS,
    "a table for each edge": dataclasses.replace(CELLS, normal=EDGES, reduce=EDGES),
}
TRACED = ("relaxation", "hypergradient", "regularizers", "perturbation")
TRACED += ("weight_penalty", "freeze")
NEEDED = {"weight": 0.5, "radius": 0.1}


def test_all_that_a_step_is_made_of_is_traced_here():
    assert set(KINDS) - set(TRACED) == {"modify", "stopping", "selection"}  # not within a step


def combinations():
    """As many as it takes for each part to be in one; the shorter lists are repeated."""
    lists = [KINDS[kind].factories for kind in TRACED]
    longest = max(map(len, lists))
    return zip(*(itertools.islice(itertools.cycle(named), longest) for named in lists), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "chosen", [dict(zip(TRACED, chosen, strict=True)) for chosen in combinations()]
)
def test_every_part_has_a_step_in_every_space(chosen, space):
    made = {kind: made_of(factory) for kind, factory in chosen.items()}
    if not any(t.weights for d in SPACES[space].decisions.values() for t in d.traits):
        del made["freeze"]  # of which there is nothing to freeze
    made["regularizers"] = (made["regularizers"],)
    preset = presets.darts(epochs=10, **made)
    check_step(build(preset, SPACES[space]))


def made_of(factory):
    parameters = inspect.signature(factory).parameters
    return part(factory, **{n: v for n, v in NEEDED.items() if n in parameters})
