"""Costs of options against networks that are built, and against published and hand-made counts."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from flax import nnx

from dnas import costs, spaces
from dnas.genotype import Genotype
from dnas.space import Mixing, Task

TASK = Task((32, 32, 3), 10)


def size(space, genotype):
    """Parameters of a network."""
    network = nnx.eval_shape(lambda: space.network(genotype, TASK, rngs=nnx.Rngs(0)))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(nnx.state(network, nnx.Param)))


def cost(table, space, genotype):
    """The sum of the costs of a genotype's choices."""
    total = 0
    for name, (rows, options) in space.decisions.items():
        for row, option in genotype[name.split(".")[0]].items():
            if row in rows:
                total += table[name][rows.index(row), options.index(option)]
    return total


SPACES = {
    "nas_bench_201": spaces.NASBench201(channels=4, cells=2),
    "darts": spaces.DARTS(channels=4, cells=4, nodes=3),
    "s1": spaces.DARTS.subset("s1", channels=4, cells=3),
    "imagenet": spaces.DARTS(channels=4, cells=4, nodes=2, stem="imagenet"),
}


@pytest.mark.parametrize("name", SPACES)
def test_networks_differ_by_the_costs_of_what_they_choose(name):
    space = SPACES[name]
    table = costs.parameters(space, TASK)
    assert {n: t.shape for n, t in table.items()} == {
        n: (len(d.rows), len(d.options)) for n, d in space.decisions.items()
    }
    rng = np.random.default_rng(0)
    genotypes = [space.sample(rng) for _ in range(3)]
    rest = {size(space, g) - cost(table, space, g) for g in genotypes}
    assert len(rest) == 1  # what is around the cells
    assert len({cost(table, space, g) for g in genotypes}) > 1


def test_one_edge_of_nas_bench_201_and_the_published_largest():
    space = spaces.NASBench201()
    table = costs.parameters(space, TASK)
    none = Genotype.create(
        space.name, {"cell": dict.fromkeys(space.decisions["cell"].rows, "none")}
    )
    one = Genotype.create(space.name, {"cell": none["cell"] | {"1->3": "nor_conv_3x3"}})
    conv = space.operations.index("nor_conv_3x3")
    assert size(space, one) - size(space, none) == table["cell"][4, conv] > 0
    # Published: 1.531546 million parameters with all 3x3 convolutions, 0.073306 with no edge.
    assert table["cell"][:, conv].sum() == 1_531_546 - 73_306
    # And 220.119690 against 7.783050 million floating point operations.
    flops = costs.multiply_adds(space, TASK)["cell"]
    assert flops[:, conv].sum() == 220_119_690 - 7_783_050
    for free in ("none", "skip_connect", "avg_pool_3x3"):
        assert not table["cell"][:, space.operations.index(free)].any()
        assert not flops[:, space.operations.index(free)].any()


def test_multiply_adds_of_darts_by_hand():
    space = spaces.DARTS(channels=4, cells=3)  # a normal cell, and two reductions: 8 and 16 wide
    flops = costs.multiply_adds(space, Task((32, 24, 3), 10))
    options = space.operations
    c, pixels = 4, 32 * 24
    normal = flops["normal"]
    assert (normal[:, options.index("skip_connect")] == 0).all()
    assert (normal[:, options.index("sep_conv_5x5")] == 2 * (25 * c + c * c) * pixels).all()
    assert (normal[:, options.index("dil_conv_3x3")] == (9 * c + c * c) * pixels).all()
    reduce = flops["reduce"]
    halves = ((8, 16 * 12), (16, 8 * 6))
    skip = reduce[:, options.index("skip_connect")]
    rows = space.decisions["reduce"].rows
    factorized = sum(c * c * p for c, p in halves)
    expected = [factorized if row[0] in "01" else 0 for row in rows]
    np.testing.assert_array_equal(skip, expected)
    separable = sum(2 * (9 * c + c * c) * p for c, p in halves)
    assert (reduce[:, options.index("sep_conv_3x3")] == separable).all()
    assert not reduce[:, options.index("max_pool_3x3")].any()


def test_edges_that_keep_fewer_candidates_and_weights_of_edges():
    whole = spaces.NASBench201(channels=4, cells=2)
    some = spaces.NASBench201(channels=4, cells=2, mixing=Mixing(edge_normalization=True)).restrict(
        {"cell": {"0->2": ("none", "nor_conv_3x3")}}
    )
    everything, table = costs.parameters(whole, TASK)["cell"], costs.parameters(some, TASK)
    assert set(table) == {f"cell.{row}" for row in whole.decisions["cell"].rows}
    np.testing.assert_array_equal(table["cell.0->2"], everything[1:2, [0, 3]])
    np.testing.assert_array_equal(table["cell.2->3"], everything[5:])


def test_odd_images_round_up_and_other_spaces_must_register():
    space = spaces.NASBench201(channels=4, cells=1, stages=2)
    flops = costs.multiply_adds(space, Task((5, 7, 3), 10))["cell"]
    assert (flops[:, 2] == 4 * 4 * 35 + 8 * 8 * 3 * 4).all()

    @dataclasses.dataclass(frozen=True)
    class Other:
        name = "other"

    with pytest.raises(TypeError, match="cells of Other are unknown"):
        costs.parameters(Other(), TASK)


def test_spaces_whose_cells_are_known_have_costs():
    class Other(spaces.DARTS):
        """Inherits the cells."""

    assert (
        costs.known(spaces.DARTS()) and costs.known(spaces.NASBench201()) and costs.known(Other())
    )
    assert not costs.known(object())
