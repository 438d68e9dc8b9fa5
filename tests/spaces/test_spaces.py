"""Decisions, discretization, samples and checks of the spaces."""

import collections

import numpy as np
import pytest

from dnas import Genotype, SearchSpace, spaces

SPACES = [
    spaces.NASBench201(),
    spaces.DARTS(),
    spaces.DARTS(nodes=2, operations=("skip_connect", "none", "sep_conv_3x3")),
    *(spaces.DARTS.subset(f"s{i}") for i in range(1, 5)),
]


@pytest.mark.parametrize("space", SPACES)
def test_samples_are_valid_and_survive_text_and_discretization(space):
    assert isinstance(space, SearchSpace) and hash(space) == hash(type(space)(**vars(space)))
    rng = np.random.default_rng(0)
    for _ in range(20):
        genotype = space.sample(rng)
        space.validate(genotype)
        assert space.parse(space.format(genotype)) == genotype
        mix = {}
        for name, (part, rows, options) in space.decisions.items():
            chosen = genotype[part]
            table = np.full((len(rows), len(options)), 0.01)
            for i, row in enumerate(rows):
                if row in chosen:
                    # Within a node, edges keep their order by falling weights.
                    rank = list(chosen).index(row)
                    table[i, options.index(chosen[row])] = 0.9 - 0.01 * rank
            mix[name] = table
        assert space.discretize(mix) == genotype


def test_nas_bench_201_is_sampled_uniformly():
    space, rng = spaces.NASBench201(), np.random.default_rng(0)
    counts = collections.Counter(
        (row, option) for _ in range(2000) for row, option in space.sample(rng)["cell"].items()
    )
    assert len(counts) == 30
    assert all(330 < n < 470 for n in counts.values())


def test_darts_is_sampled_uniformly():
    space, rng = spaces.DARTS(), np.random.default_rng(0)
    pairs, operations = collections.Counter(), collections.Counter()
    for _ in range(2000):
        cell = space.sample(rng)["reduce"]
        pairs[tuple(row for row in cell if row.endswith(">5"))] += 1
        operations.update(cell.values())
    assert len(pairs) == 10 and all(140 < n < 260 for n in pairs.values())
    assert len(operations) == 7 and "none" not in operations
    assert all(2000 < n < 2600 for n in operations.values())


def test_decisions_have_the_published_sizes():
    cell = spaces.NASBench201().decisions["cell"]
    assert cell.rows == ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
    assert cell.options[0] == "none" and len(cell.options) == 5
    for table in spaces.DARTS().decisions.values():
        assert (len(table.rows), len(table.options)) == (14, 8)
    assert len(spaces.DARTS.subset("s1").decisions) == 28
    assert spaces.DARTS.subset("s2").decisions["normal"].options == ("skip_connect", "sep_conv_3x3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spaces.NASBench201(channels=0), "channels=0"),
        (lambda: spaces.NASBench201(nodes=1), "nodes=1"),
        (lambda: spaces.NASBench201(operations=("conv_9x9",)), "conv_9x9"),
        (lambda: spaces.DARTS(channels=1), "channels=1: factorized"),
        (lambda: spaces.DARTS(cells=0), "cells=0"),
        (lambda: spaces.DARTS(stem="mnist"), "stem='mnist'"),
        (lambda: spaces.DARTS(operations=("none",)), "has no candidate that is a connection"),
        (lambda: spaces.NASBench201(operations=()), "has no candidate that is a connection"),
        (lambda: spaces.NASBench201(operations=("none", "none", "skip_connect")), "twice"),
        (lambda: spaces.DARTS(normal=(("skip_connect",),)), "names candidates for 1 edges"),
        (lambda: spaces.DARTS.subset("s5"), "subset='s5': expected one of s1, s2, s3, s4"),
    ],
)
def test_impossible_spaces_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0->2": "none"}, "has the operation 'none'"),
        ({"0->9": "skip_connect"}, "has an edge '0->9'"),
        ({"0->3": "skip_connect", "1->3": "skip_connect", "2->3": "skip_connect"}, "3 inputs"),
    ],
)
def test_genotypes_that_do_not_belong_are_refused(change, message):
    space = spaces.DARTS()
    genotype = space.sample(np.random.default_rng(1))
    parts = {part: genotype[part] for part in genotype.parts()}
    parts["normal"] = {**parts["normal"], **change}
    with pytest.raises(ValueError, match=message):
        space.validate(Genotype.create("darts", parts))
    with pytest.raises(ValueError, match="belongs to the space 'darts', expected 'nas_bench_201'"):
        spaces.NASBench201().validate(genotype)
    with pytest.raises(ValueError, match="has no auxiliary head"):
        spaces.NASBench201().network(genotype, None, rngs=None, auxiliary=True)
