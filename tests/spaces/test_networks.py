"""Discrete networks: published numbers of parameters, and agreement with their supernets."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import DARTS_V2
from flax import nnx

from dnas import spaces
from dnas.benchmarks import NASBench201 as Table
from dnas.tasks import Classification


def count(build):
    state = nnx.state(nnx.eval_shape(build), nnx.Param)
    return sum(x.size for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("fields", "task", "auxiliary", "expected"),
    [
        ({"channels": 36, "cells": 20}, Classification((32, 32, 3), 10), False, 3_349_342),
        ({"channels": 36, "cells": 20}, Classification((32, 32, 3), 10), True, 3_825_768),
        (
            {"channels": 48, "cells": 14, "stem": "imagenet"},
            Classification((224, 224, 3), 1000),
            False,
            4_718_752,
        ),
        # 4,718,752 and the published ImageNet head, whose second normalisation is left out.
        (
            {"channels": 48, "cells": 14, "stem": "imagenet"},
            Classification((224, 224, 3), 1000),
            True,
            4_718_752 + 768 * 128 + 2 * 128 + 4 * 128 * 768 + 768 * 1000 + 1000,
        ),
    ],
)
def test_darts_v2_has_the_published_number_of_parameters(fields, task, auxiliary, expected):
    space = spaces.DARTS(**fields)
    genotype = space.parse(DARTS_V2)
    found = count(lambda: space.network(genotype, task, rngs=nnx.Rngs(0), auxiliary=auxiliary))
    assert found == expected


def test_nas_bench_201_networks_have_the_tables_number_of_parameters(shared_data):
    table = Table(shared_data / "nb201_table.csv")
    space = spaces.NASBench201()
    # The table rounds to six digits; in millions.
    for number in np.random.default_rng(0).choice(15_625, 36, replace=False):
        genotype = table.genotype(int(number))
        task = Classification((32, 32, 3), 10)
        network = lambda g=genotype, t=task: space.network(g, t, rngs=nnx.Rngs(0))  # noqa: E731
        expected = float(table.parameters(int(number)))
        np.testing.assert_allclose(count(network) / 1e6, expected, rtol=1e-5)


def copy_operation(name, fused, edge, plain):
    """Copies the weights of one edge of a fused operation into the plain one."""
    if name.startswith("nor_conv"):
        plain.conv.kernel[...] = fused.kernel[..., edge, :]
    elif "sep" in name or "dil" in name:
        for i, conv in enumerate(plain.convs):
            conv.depthwise[...] = fused.depthwise[i][..., edge]
            conv.pointwise[...] = fused.pointwise[i][..., edge, :]
    elif hasattr(plain, "kernels"):
        plain.kernels[...] = fused.kernels[..., edge, :]


def copy_cells(mixed, discrete, choices):
    """Copies the weights of the chosen operations; both may be stacked along leading axes."""
    for (row, name), plain in zip(choices.items(), discrete.operations, strict=True):
        i, j = map(int, row.split("->"))
        source, outgoing = mixed.sources[i], [e for e in mixed.edges if e[0] == i]
        if name in source.users:
            copy_operation(name, source.operations[name], outgoing.index((i, j)), plain)


def copy_surroundings(supernet, network):
    """Copies what has the same name and shape in both: everything around the cells."""
    theirs = dict(nnx.to_flat_state(nnx.state(supernet, nnx.Param)))
    for path, variable in nnx.to_flat_state(nnx.state(network, nnx.Param)):
        if "cells" not in path and path in theirs:
            variable[...] = theirs[path][...]


def one_hot(space, genotype):
    """The mix in which exactly the genotype's operations have weight one."""
    mix = {}
    for part, (_, rows, options) in space.decisions.items():
        table = np.zeros((len(rows), len(options)), np.float32)
        for row, option in genotype[part].items():
            table[rows.index(row), options.index(option)] = 1
        mix[part] = jnp.asarray(table)
    return mix


CONVOLUTIONS = ("none", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_5x5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "space",
    [
        spaces.NASBench201(channels=4, cells=2, stages=2),
        # In DARTS only supernets normalise behind poolings: they stay out of this comparison.
        spaces.DARTS(channels=4, cells=6, nodes=2, operations=CONVOLUTIONS),
    ],
    ids=lambda space: space.name,
)
def test_network_computes_what_the_supernet_computes_for_its_one_hot_mix(space):
    task = Classification((8, 8, 3), 4)
    genotype = space.sample(np.random.default_rng(3))
    supernet = space.supernet(task, rngs=nnx.Rngs(0))
    network = space.network(genotype, task, rngs=nnx.Rngs(1))

    copy_surroundings(supernet, network)
    if space.name == "nas_bench_201":
        for mine, theirs in zip(network.stages, supernet.stages, strict=True):
            copy_cells(theirs.cells, mine.cells, genotype["cell"])
    else:
        for run, mine, theirs in zip(network.plan, network.runs, supernet.runs, strict=True):
            part = "reduce" if run.reduction else "normal"
            copy_cells(theirs.stack.cells.graph, mine.stack.cells.graph, genotype[part])

    x = jax.random.normal(jax.random.key(2), (6, 8, 8, 3))
    expected = supernet(x, one_hot(space, genotype))
    found = network(x, train=True).logits
    assert jnp.abs(expected).max() > 0.1
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_cells_without_weights_work():
    space = spaces.NASBench201(channels=2, cells=2, stages=1)
    genotype = space.parse(
        "|skip_connect~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|skip_connect~2|"
    )
    network = space.network(genotype, Classification((4, 4, 1), 2), rngs=nnx.Rngs(0))
    assert network(jnp.ones((3, 4, 4, 1)), train=True).logits.shape == (3, 2)


def test_running_averages_of_scanned_cells_are_updated_and_used():
    space = spaces.NASBench201(channels=2, cells=2, stages=1)
    genotype = space.parse(
        "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    )
    network = space.network(genotype, Classification((4, 4, 1), 2), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
    graph, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)

    @jax.jit
    def train(stats):
        network = nnx.merge(graph, params, stats)
        logits = network(x, train=True).logits
        return nnx.state(network, nnx.BatchStat), logits

    for _ in range(100):
        stats, trained = train(stats)
    network = nnx.merge(graph, params, stats)
    means = network.stages[0].cells.operations[0].norm.mean[...]
    assert means.shape == (2, 2) and jnp.abs(means[0] - means[1]).max() > 1e-3
    # After many passes over one batch its running averages are that batch's statistics.
    chex.assert_trees_all_close(network(x).logits, trained, rtol=1e-2, atol=1e-2)
    before = means.copy()
    network(x)
    chex.assert_trees_all_equal(before, network.stages[0].cells.operations[0].norm.mean[...])
