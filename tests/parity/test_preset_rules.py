"""What presets decide, drop, keep and carry: rules of the papers and programs, in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from planted import Planted

from dnas import presets, spaces
from dnas.genotype import Genotype
from dnas.gradient.stopping import Record
from dnas.nn.cell import DiscreteCell
from dnas.nn.layers import running
from dnas.nn.supernet.inherit import inherit
from dnas.presets.stages import keep_strongest
from dnas.tasks import Classification

RNG = np.random.default_rng(0)
DARTS = spaces.DARTS()
CELL = spaces.NASBench201()


def test_fair_darts_searches_without_none():
    """One table still, with seven candidates in DARTS; spaces without it stay as they are."""
    modify, s1 = presets.fair_darts().modified, spaces.DARTS.subset("s1", channels=8)
    for part in ("normal", "reduce"):
        assert modify(DARTS).decisions[part].options == DARTS.decisions[part].options[1:]
    assert len(modify(DARTS).decisions["normal"].options) == 7
    found = modify(CELL)
    assert {n: d.options for n, d in found.decisions.items()} == {"cell": CELL.operations[1:]}
    assert modify(found) is found and modify(s1) is s1


def test_the_dropout_rates_of_p_darts():
    """Those of the program's 25 epochs, at their end while alphas wait, then at their beginning."""
    steps = 25 * 8
    for stage, rate in zip(presets.p_darts().stages, (0.0, 0.4, 0.7), strict=True):
        schedule = dict(stage.settings)["skip_dropout"].make(total_steps=steps)
        for epoch in range(25):
            if epoch < 10:
                expected, step = rate * (25 - epoch - 1) / 25, 8 * (epoch + 1)
                step -= epoch == 9  # the last end is where the other formula begins
                tolerance = rate / steps * 1.01 if epoch == 9 else 1e-6
            else:
                expected, step, tolerance = rate * np.exp(-0.2 * (epoch - 10)), 8 * epoch, 1e-6
            np.testing.assert_allclose(schedule(step), expected, atol=tolerance)


def test_the_candidates_that_p_darts_and_drnas_keep():
    """8, 5 and 3 of 8, and 3 of 5, on every edge: without the weakest, as often as needed."""
    five = spaces.DARTS(operations=DARTS.operations[:5])
    for space, share, drop in ((DARTS, 5 / 8, 3), (five, 3 / 5, 2), (CELL, 3 / 5, 2)):
        mix = {n: RNG.random((len(d.rows), len(d.options))) for n, d in space.decisions.items()}
        found = keep_strongest(space, mix, share)
        for name, (_, rows, options) in space.decisions.items():
            for row, weights in zip(rows, mix[name].copy(), strict=True):
                for _ in range(drop):
                    weights[weights.argmin()] = np.inf
                expected = [o for o, w in zip(options, weights, strict=True) if w < np.inf]
                assert list(found[name][row]) == expected


def kept_by_hand(probabilities, options):
    """Normal edges and operations after the program's loop: edge -> operation."""
    p = probabilities.copy()
    p[:, options.index("none")] = 0
    skip = options.index("skip_connect")
    ends, start = [], 0
    for inputs in (2, 3, 4, 5):
        ends.append(range(start, start + inputs))
        start += inputs
    while True:
        strongest = p.max(-1)
        kept = [e for node in ends for e in sorted(sorted(node, key=lambda e: strongest[e])[-2:])]
        skips = [e for e in kept if p[e].argmax() == skip]
        if len(skips) <= 2:
            return {DARTS.rows[e]: options[p[e].argmax()] for e in kept}
        weakest = min(skips, key=lambda e: p[e, skip])
        p[weakest, skip] = 0


def test_the_skip_connections_that_p_darts_keeps():
    options = DARTS.decisions["normal"].options
    limited = 0
    for _ in range(30):
        planted = Planted(DARTS)
        planted.mix = mix = {name: RNG.dirichlet(np.ones(8), 14) for name in ("normal", "reduce")}
        mix["normal"][:, options.index("skip_connect")] *= 3  # too many of them
        genotype, record = presets.p_darts().made("selection")(planted.trained())
        assert dict(genotype["normal"].items()) == kept_by_hand(mix["normal"], options)
        assert genotype["reduce"] == DARTS.discretize(mix)["reduce"]
        limited += bool(record)
    assert limited > 10


def genotype_of(skips):
    kinds = ["skip_connect"] * skips + ["nor_conv_3x3"] * (6 - skips)
    rows = CELL.decisions["cell"].rows
    return Genotype.create(CELL.name, {"cell": dict(zip(rows, kinds, strict=True))})


def test_when_darts_plus_ends():
    """At the first epoch with two skip connections in a cell."""
    rule = presets.darts_plus().made("stopping", space=CELL).rule
    for _ in range(20):
        counts = RNG.integers(0, 3, 12)
        records, ends = [], [i + 1 for i, n in enumerate(counts) if n >= 2]
        for n in counts:
            records.append(Record(genotype_of(n)))
            if (found := rule(records)) is not None:
                break
        assert found == (ends[0] if ends else None)


def test_when_r_darts_ends():
    """Where the mean of five eigenvalues was, five epochs ago, below 0.75 of what it is."""
    rule, stops = presets.r_darts().made("stopping", space=CELL).rule, 0
    for trend in np.linspace(-0.01, 0.1, 12):
        values = 0.2 * np.exp(trend * np.arange(30)) * RNG.uniform(0.8, 1.2, 30)
        means = np.convolve(values, np.ones(5) / 5, "valid")  # of the epochs i to i + 4
        grown = [i for i in range(len(means) - 5) if means[i] < 0.75 * means[i + 5]]
        expected = grown[0] + 5 if grown else None  # the epoch, from 1, that the earlier mean ends
        records, found = [], None
        for value in values:
            records.append(Record(genotype_of(0), float(value)))
            if (found := rule(records)) is not None:
                assert len(records) == found + 5
                break
        assert found == expected
        stops += found is not None
    assert 3 < stops < 12


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_dropped_paths(probability):
    """Of every image and edge by itself, scaled by the share that is kept; identities stay."""
    choices = {"0->2": "skip_connect", "1->2": "avg_pool_3x3", "0->3": "avg_pool_3x3"}
    choices["2->3"] = "max_pool_3x3"
    rngs = nnx.Rngs(0)
    cell = DiscreteCell(4, 2, 2, choices, norm=running(rngs), rngs=rngs)
    images = jnp.asarray(RNG.normal(size=(2, 600, 3, 3, 4)), jnp.float32)

    @jax.jit
    def run(images):
        nodes = cell(
            list(images), use_running_average=True, key=jax.random.key(1), drop=probability
        )
        sources = (images[0], images[1], images[0], nodes[0])
        paths = [
            operation(x, use_running_average=True)
            for operation, x in zip(cell.operations, sources, strict=True)
        ]
        return nodes, paths

    (first, second), paths = jax.tree.map(np.asarray, run(images))
    keep = 1 - probability

    def kept(total, one, other=0.0):
        """Whether each image's path is there; it is so as a whole, or not at all."""
        there = np.abs(total - other - one / keep).max((1, 2, 3)) < 1e-4
        gone = np.abs(total - other).max((1, 2, 3)) < 1e-4
        assert (there ^ gone).all()
        return there

    pooled = kept(first, paths[1], paths[0])
    both = [kept_of(second, paths[2], paths[3], keep, i) for i in range(600)]
    masks = np.array([pooled, *np.transpose(both)])
    np.testing.assert_allclose(masks.mean(-1), keep, atol=4 * np.sqrt(keep * probability / 600))
    assert np.abs(np.corrcoef(masks) - np.eye(3)).max() < 0.17


def kept_of(total, one, other, keep, image):
    """Which of two paths an image has, by the only of four sums that it is."""
    cases = [(a, b) for a in (0, 1) for b in (0, 1)]
    distances = [
        np.abs(total[image] - (a * one[image] + b * other[image]) / keep).max() for a, b in cases
    ]
    assert min(distances) < 1e-4
    return cases[int(np.argmin(distances))]


def test_the_widening_of_drnas():
    """Twice the partial channels: weights beside their copies, along inputs and then outputs.

    The program's `InChannelWider` and `OutChannelWider`, with channels repeated in order where it
    draws them.
    """
    preset = presets.drnas()
    base = preset.modified(spaces.NASBench201(channels=8, cells=1, stages=1, nodes=3))
    mix = {"cell": RNG.dirichlet(np.ones(5), 3)}
    wide = preset.stages[1].changed(base, base, mix)
    assert (base.mixing.partial, wide.mixing.partial) == (4, 2)

    def weights(space, scale):
        net = nnx.eval_shape(lambda: space.supernet(Classification((8, 8, 3), 4), rngs=nnx.Rngs(0)))
        params = nnx.to_pure_dict(nnx.state(net, nnx.Param))
        return jax.tree.map(lambda x: np.float32(scale * RNG.normal(size=x.shape)), params)

    old, new = weights(base, 1.0), weights(wide, 0.0)
    found = inherit(base, old, wide, new, Classification((8, 8, 3), 4))
    cell = ("stages", 0, "cells", "sources")
    options = spaces.nas_bench_201.OPERATIONS
    checked = 0
    for source, edges in ((0, (0, 1)), (1, (2,))):  # the numbers of the edges that leave it
        for name in ("nor_conv_1x1", "nor_conv_3x3"):
            position = options.index(name)
            ranks = np.argsort(-mix["cell"], -1)[:, :3]
            kept = [i for i, e in enumerate(edges) if position in ranks[e]]
            if not kept:
                continue
            place = (*cell, source, "operations", name, "kernel")
            before, after = (reach(tree, place) for tree in (old, found))
            w = before[..., kept, :]  # [cells, height, width, in, edges, out]
            index = np.arange(w.shape[3])
            w = np.concatenate([w, w[:, :, :, index]], 3)
            w = np.concatenate([w, w[..., index]], -1)
            np.testing.assert_array_equal(after, w)
            checked += 1
    assert checked >= 2


def reach(tree, path):
    for key in path:
        tree = tree[key]
    return np.asarray(tree)
