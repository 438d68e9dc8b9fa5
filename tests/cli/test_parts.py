"""Every part that the command line knows, on every kind of space."""

import dataclasses
import itertools

import pytest
from preset_steps import CELL, build, check_step

from dnas import presets, spaces
from dnas.cli import parts

CELLS = spaces.DARTS(
    channels=2, cells=3, nodes=1, stem_multiplier=1, operations=("none", "skip_connect")
)
EDGES = (("skip_connect", "avg_pool_3x3"), ("none", "skip_connect", "max_pool_3x3"))
SPACES = {
    "cell": CELL,
    "normal and reduction": CELLS,
    "a table for each edge": dataclasses.replace(CELLS, normal=EDGES, reduce=EDGES),
}
TRACED = ("relaxation", "hypergradient", "regularizer", "perturbation")


def test_all_that_a_step_is_made_of_is_traced_here():
    assert set(parts.PARTS) - set(TRACED) == {"stopping", "selection"}  # not within a step


def combinations():
    """As many as it takes for each part to be in one; the shorter lists are repeated."""
    lists = [list(parts.PARTS[key][1].items()) for key in TRACED]
    longest = max(map(len, lists))
    return zip(*(itertools.islice(itertools.cycle(named), longest) for named in lists), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "chosen", [dict(zip(TRACED, chosen, strict=True)) for chosen in combinations()]
)
def test_every_part_has_a_step_in_every_space(chosen, space):
    made = {parts.PARTS[key][0]: part.make() for key, (_, part) in chosen.items()}
    preset = presets.darts(epochs=10, **made)
    check_step(build(preset, SPACES[space]))
