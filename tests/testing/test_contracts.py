"""The checks of spaces and relaxations pass on ours, and catch what is wrong."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Blind, Rows

from dnas import spaces
from dnas.genotype import Genotype
from dnas.gradient import relax
from dnas.parts import part
from dnas.presets.kinds import KINDS
from dnas.space import Decision, Mixing
from dnas.tasks import Classification
from dnas.tasks.language import LanguageModelling
from dnas.testing import check_relaxation, check_space

TASK = Classification((8, 8, 3), 4)
CELL = spaces.NASBench201(channels=4, cells=1, stages=2)
SPACES = {
    "nas_bench_201": CELL,
    "edge weights": dataclasses.replace(CELL, mixing=Mixing(edge_normalization=True)),
    "darts": spaces.DARTS(channels=4, cells=3, nodes=2, stem_multiplier=1),
    "s1": spaces.DARTS.subset("s1", channels=4, cells=3, stem_multiplier=1),
}


@dataclasses.dataclass(frozen=True)
class Two(Rows):
    """Two rows in two tables."""

    name = "two"

    @property
    def decisions(self):
        return {name: Decision(name, ("row",), ("a", "b", "c")) for name in ("first", "second")}


@pytest.mark.parametrize("name", SPACES)
def test_spaces_keep_their_contract(name):
    check_space(SPACES[name], TASK)


def test_spaces_of_ones_own_keep_it_too():
    check_space(Two(), TASK)


def test_spaces_whose_networks_carry_a_state_keep_it():
    check_space(spaces.Recurrent(channels=8, nodes=3), LanguageModelling(20, length=4))


_SEEDS = itertools.count()


class Unsteady(Two):
    def sample(self, rng):
        return super().sample(np.random.default_rng(next(_SEEDS)))


class Elsewhere(Two):
    def discretize(self, mix):
        return super().discretize({name: -table for name, table in mix.items()})


class Lenient(Two):
    def validate(self, genotype):
        del genotype


class Twice(Two):
    @property
    def decisions(self):
        return {name: Decision("part", ("row",), ("a", "b", "c")) for name in ("first", "second")}


class Deaf(Two):
    def supernet(self, task, *, rngs):
        class Half(Blind):
            def __call__(self, x, mix, key=None):
                return super().__call__(x, {"first": mix["first"]})

        return Half(task.classes)


class Narrow(Two):
    def network(self, genotype, task, *, rngs, auxiliary=False):
        return super().network(genotype, dataclasses.replace(task, classes=3), rngs=rngs)


class Foreign(Two):
    def sample(self, rng):
        genotype = super().sample(rng)
        return Genotype.create("one", {part: genotype[part] for part in genotype.parts()})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Unsteady(), "the same generator samples another"),
        (Elsewhere(), "discretize makes .* of the mix that stands for"),
        (Lenient(), "validate takes an architecture of another space"),
        (Twice(), "table 'second' decides rows of another table"),
        (Deaf(), "reads the decisions 'second'"),
        (Narrow(), "its network has other outputs"),
        (Foreign(), "its samples belong to the space 'one'"),
        (object(), "it lacks members"),
    ],
)
def test_spaces_that_break_it_are_caught(space, message):
    with pytest.raises(AssertionError, match=message):
        check_space(space, TASK, samples=8)


DECISIONS = {
    "one": Decision("one", ("x", "y"), ("a", "b", "c")),
    "two": Decision("two", ("z",), ("a", "b")),
}


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(f, marks=pytest.mark.slow) if f is relax.dirichlet else f
        for f in KINDS["relaxation"].factories
    ],
)
def test_relaxations_keep_their_contract(factory):
    check_relaxation(part(factory).make(), DECISIONS)


def every(function):
    def mixed(alphas, step):
        return {name: function(table) for name, table in alphas.items()}

    return relax.Relaxation(lambda key, alphas, step: mixed(alphas, step), mixed)


@pytest.mark.parametrize(
    ("relaxation", "message"),
    [
        (every(jnp.tanh), "negative or not finite"),
        (every(lambda t: jax.nn.softmax(-t)), "does not prefer the option of the largest logit"),
        (every(lambda t: jax.nn.softmax(t, 0)), "depend on other layers"),
        (every(lambda t: jax.nn.softmax(t)[..., :1]), "makes tables"),
        (every(lambda t: jax.nn.softmax(t).astype(jnp.bfloat16)), "makes tables"),
        (every(lambda t: jnp.where(t > 9, 1.0, 0.0)), "gives a row of table 'one' no weight"),
    ],
)
def test_relaxations_that_break_it_are_caught(relaxation, message):
    with pytest.raises(AssertionError, match=message):
        check_relaxation(relaxation, DECISIONS)
