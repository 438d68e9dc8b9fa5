"""Costs of options and networks against networks that are built, published and hand-made counts."""

import contextlib
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import DARTS_V2
from flax import nnx

from dnas import costs, spaces
from dnas.benchmarks import NASBench201 as Table
from dnas.capabilities import Costed
from dnas.genotype import Genotype
from dnas.nn import operations, products
from dnas.nn.kernels import native
from dnas.space import Mixing, Site
from dnas.tasks import Classification

TASK = Classification((32, 32, 3), 10)


def size(space, genotype):
    """Parameters of a network."""
    network = nnx.eval_shape(lambda: space.network(genotype, TASK, rngs=nnx.Rngs(0)))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(nnx.state(network, nnx.Param)))


def cost(table, space, genotype):
    """The sum of the costs of a genotype's choices."""
    total = 0
    for name, (part, rows, options) in space.decisions.items():
        for row, option in genotype[part].items():
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
    flops = costs.multiply_adds(space, Classification((32, 24, 3), 10))
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


def test_odd_images_round_up():
    space = spaces.NASBench201(channels=4, cells=1, stages=2)
    flops = costs.multiply_adds(space, Classification((5, 7, 3), 10))["cell"]
    assert (flops[:, 2] == 4 * 4 * 35 + 8 * 8 * 3 * 4).all()


def test_costs_of_a_space_of_ones_own():
    """Two cells of 3 channels behind an input and one of 6 with stride two, written by hand."""

    options = ("skip_connect", "nor_conv_1x1")

    class Own:
        name = "own"
        decisions: ClassVar = {"cell": operations.Operations("cell", ("0->1",), options)}

        def sites(self, task):
            return [Site("cell", 4, (8, 8), 2), Site("cell", 6, (4, 4), 1, stride=2)]

    weights = 2 * (4 * 4 + 2 * 4) + 6 * 6 + 2 * 6  # convolution, scale and shift
    reduction = 6 * 6 + 2 * 6
    table = costs.parameters(Own(), TASK)["cell"]
    np.testing.assert_array_equal(table, [[reduction, weights]])
    flops = costs.multiply_adds(Own(), TASK)["cell"]
    np.testing.assert_array_equal(flops, [[6 * 6 * 16, 2 * 4 * 4 * 64 + 6 * 6 * 16]])


def test_spaces_without_cells_have_no_costs_of_options():
    assert all(isinstance(s, Costed) for s in (spaces.DARTS(), spaces.NASBench201()))
    assert not isinstance(spaces.Dense(), Costed)
    with pytest.raises(ValueError, match=r"Costed, and 'dense' lacks some of its members: sites"):
        costs.parameters(spaces.Dense(), TASK)


@pytest.mark.parametrize("native_kernels", [True, False])  # they compute in other ways
def test_multiply_adds_of_whole_networks(native_kernels):
    space = spaces.NASBench201()
    cell = space.parse(  # number 0 of the table
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    imagenet = spaces.DARTS(channels=48, cells=14, stem="imagenet")
    task = Classification((224, 224, 3), 1000)
    with contextlib.nullcontext() if native_kernels else native.disabled():
        assert costs.count_multiply_adds(space, cell, TASK) == 15_647_360
        darts_v2 = imagenet.parse(DARTS_V2)
        assert costs.count_multiply_adds(imagenet, darts_v2, task) == 529_911_552


def test_every_network_of_nas_bench_201_counts_as_in_the_table(shared_data):
    """The costs of options and what is around the cells, against both counts of all rows.

    The table's column of operations, `flops_m_c10_fit`, is more than multiply-adds: a linear form
    in the operations of a cell. Beside the multiply-adds it has three operations for every element
    that a convolution's ReLU and normalisation pass, nine for every pooled one, and a constant for
    what is around the cells.
    """
    space, table = spaces.NASBench201(), Table(shared_data / "nb201_table.csv")
    numbers = np.arange(table.parameters(np.arange(5**6)).size)
    choices = numbers[:, None] // 5 ** np.arange(6) % 5  # [architectures, edges]
    assert table.genotype(7)["cell"]["0->1"] == space.operations[choices[7, 0]]
    nothing = Genotype.create(
        space.name, {"cell": dict.fromkeys(space.decisions["cell"].rows, "none")}
    )

    def all_of(costs_of_options, of_nothing):
        return (of_nothing + costs_of_options[np.arange(6), choices].sum(1)) / 1e6

    counted = all_of(
        costs.parameters(space, TASK)["cell"], costs.count_parameters(space, nothing, TASK)
    )
    np.testing.assert_allclose(counted, table.parameters(numbers), rtol=5e-6)  # of six digits

    products = all_of(
        costs.multiply_adds(space, TASK)["cell"], costs.count_multiply_adds(space, nothing, TASK)
    )
    elements = space.cells * sum(16 * 2**s * 4 ** (5 - s) for s in range(3)) / 1e6
    extra = np.array([0, 0, 3, 3, 9])[choices].sum(1) * elements + 0.160848
    np.testing.assert_allclose(products + extra, table.flops(numbers), atol=2e-3)
    for number in (0, 4321, 15_624):  # and the whole networks are the sums of their parts
        found = costs.count_multiply_adds(space, table.genotype(number), TASK)
        assert found == round(1e6 * products[number])


def test_own_operations_and_products_of_inputs_are_counted():
    class Attention(nnx.Module):
        """A grouped convolution, a transposed one, and the product of what comes out."""

        def __init__(self, channels, stride, *, norm, rngs):
            self.down = nnx.Conv(channels, channels, (3, 3), 2, feature_group_count=2, rngs=rngs)
            self.up = nnx.ConvTranspose(channels, channels, (2, 2), 2, rngs=rngs)
            self.norm = norm(channels)

        def __call__(self, x, use_running_average=False, key=None):
            y = self.norm(self.up(self.down(x)), use_running_average)
            attention = jnp.einsum("bhwc,bvwc->bwhv", y, y)
            return jnp.einsum("bwhv,bvwc->bhwc", attention, y)

    operations.register("attention_of_costs", Attention)
    space = spaces.NASBench201(
        channels=4, cells=3, stages=1, nodes=2, operations=("none", "attention_of_costs")
    )
    counts = [
        costs.count_multiply_adds(
            space,
            Genotype.create(space.name, {"cell": {"0->1": name}}),
            Classification((8, 8, 3), 5),
        )
        for name in space.operations
    ]
    around = 9 * 3 * 4 * 64 + 4 * 5
    down, up, products = 9 * 2 * 4 * 16, 4 * 4 * 4 * 16, 2 * 8 * 8 * 8 * 4
    assert counts == [around, around + 3 * (down + up + products)]


def test_products_count_as_often_as_loops_use_them():
    x, weights = jnp.ones((2, 3)), {"own": jnp.ones((5, 3, 3)), "same": jnp.ones((3, 3))}

    def function(weights, x):
        def body(x, own):
            y = jnp.tanh(x @ own @ weights["same"])
            return jax.lax.cond(y.sum() > 0, lambda y: y @ own, lambda y: y, y), None

        constant = x @ jnp.eye(3)
        shared = weights["same"] @ weights["same"]
        return jax.jit(jax.lax.scan, static_argnums=0)(body, constant, weights["own"])[0] @ shared

    assert products.multiply_adds(function, weights, x) == 2 * 9 * (3 * 5 + 1) + 27
