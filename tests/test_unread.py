"""Tables of decisions that no part of a supernet reads are refused before anything is compiled."""

import dataclasses

import jax
import pytest
from flax import nnx
from toys import Rows

from dnas import presets, spaces
from dnas.gradient.fit import check_tables
from dnas.jobs import stages
from dnas.presets.stages import Stage
from dnas.space import Decision, Mixing
from dnas.tasks import Classification

TASK = Classification((8, 8, 1), 3)
PAIR = ("skip_connect", "avg_pool_3x3", "none")
TWO = spaces.DARTS(channels=2, cells=2, nodes=1, operations=PAIR)
THREE = dataclasses.replace(TWO, cells=3)
OWN = {"normal": {"0->2": PAIR[:2]}}  # a table for each edge
NORMALISED = Mixing(edge_normalization=True)


@pytest.mark.parametrize(
    ("space", "tables"),
    [
        (TWO, "'normal'"),
        (dataclasses.replace(TWO, cells=1), "'normal'"),
        (TWO.restrict(OWN), "'normal.0->2', 'normal.1->2'"),
        (dataclasses.replace(TWO, mixing=NORMALISED), "'normal', 'normal.2'"),
    ],
)
def test_a_space_without_normal_cells_says_how_many_cells_it_needs(space, tables):
    with pytest.raises(ValueError, match=rf"reads the decisions {tables}, .* cells=3 or more, not"):
        check_tables(space, TASK)


@pytest.mark.parametrize(
    "space",
    [
        THREE,
        THREE.restrict(OWN),
        dataclasses.replace(THREE, mixing=NORMALISED),
        dataclasses.replace(THREE, mixing=Mixing(single_path=True)),
        spaces.NASBench201(channels=2, cells=1, stages=1, nodes=2, operations=PAIR),
    ],
)
def test_what_is_read_passes(space):
    assert all(space.layers.values())
    check_tables(space, TASK)


def test_every_stage_counts():
    def shrink(base, before, mix):
        return dataclasses.replace(base.restrict({"normal": {"0->2": PAIR[:2]}}), cells=2)

    preset = presets.darts(stages=(Stage(0.5), Stage(0.5, shrink)))
    with pytest.raises(ValueError, match=r"'normal\.0->2'.* cells=3 or more"):
        stages.check(preset, THREE, 4, TASK)
    with pytest.raises(ValueError, match=r"'normal'.* cells=3 or more"):
        stages.check(presets.p_darts(), TWO, 3, TASK)


class Forgetful(nnx.Module):
    """Computes with both tables, but only one of them leads to its logits."""

    def __init__(self, task, rngs):
        self.head = nnx.Linear(task.inputs.shape[0], task.classes, rngs=rngs)

    def __call__(self, x, mix, key=None):
        unused = x * mix["second"][0, 0]
        del unused
        return mix["first"][0, 0] * self.head(x[:, :, 0, 0])


@dataclasses.dataclass(frozen=True)
class Own(Rows):
    name = "own"

    @property
    def decisions(self):
        return {name: Decision(name, ("row",), ("a", "b")) for name in ("first", "second")}

    def supernet(self, task, *, rngs):
        return Forgetful(task, rngs)


def test_a_space_of_ones_own_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(jax, "jit", None)
    message = r"reads the decisions 'second', .* a larger supernet, or a space without them"
    with pytest.raises(ValueError, match=message):
        stages.check(presets.darts(), Own(), 1, TASK)
