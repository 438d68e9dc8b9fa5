"""Selections on planted problems, where what an option is worth is a number in a table."""

import collections
import itertools

import numpy as np
import pytest
from planted import CELL, SMALL, Planted, scores_of

from dnas import selection, spaces
from dnas.choices import choices_of
from dnas.genotype import Genotype
from dnas.space import Mixing
from dnas.strategies.local_search import neighbors


def test_options_that_the_space_cannot_take_are_no_choice():
    assert {c.allowed for c in choices_of(CELL)} == {(0, 1, 2, 3, 4)}
    assert {c.allowed for c in choices_of(SMALL)} == {(1, 2)}
    space = spaces.NASBench201(mixing=Mixing(edge_normalization=True))
    assert [c.row for c in choices_of(space)] == list(space.part.rows)
    assert len(choices_of(spaces.DARTS.subset("s1"))) == 28


def test_masked_rows_keep_their_weight():
    mix = {"a": np.array([[0.1, 0.3, 0.6], [2.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])}
    masks = {"a": np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]], float)}
    expected = [[0.25, 0.75, 0], [2, 1, 1], [0.5, 0.5, 0], [0, 0, 0]]
    np.testing.assert_allclose(selection.masked(mix, masks)["a"], expected, rtol=1e-6)


def test_perturbation_takes_what_is_missed_most():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.float32([0.1, 0.5, 0.1, 0.2, 0.1]), (6, 1))
    trained = planted.trained()
    genotype, record = selection.perturbation(epochs=1.5)(trained)

    # A second computation, in the order that the record tells.
    _, rows, options = CELL.decisions["cell"]
    assert sorted(d["row"] for d in record) == sorted(rows)
    assert [d["row"] for d in record] != list(rows)
    mix = planted.mix["cell"].astype(np.float64)
    for number, decision in enumerate(record):
        row = rows.index(decision["row"])
        total = (mix * planted.worth["cell"]).sum()
        lost = mix[row] * planted.worth["cell"][row]
        for option, score in decision["without"].items():
            left = total - lost[options.index(option)]
            np.testing.assert_allclose(score["accuracy"], left, rtol=1e-5)
            np.testing.assert_allclose(score["loss"], -left, rtol=1e-5)
        assert decision["option"] == options[lost.argmax()] == genotype["cell"][decision["row"]]
        mix[row] = np.eye(5)[lost.argmax()]
        if number < 5:  # nothing follows the last decision
            tuned, steps = planted.tuned[number]
            np.testing.assert_allclose(tuned["cell"], mix, rtol=1e-6)
            assert steps == 15
    assert len(planted.tuned) == 5 and len(planted.mixes) == 30
    assert planted.states == [n for n in range(6) for _ in range(5)]  # those that were tuned
    assert genotype != selection.strongest()(trained).genotype


def test_losses_decide_between_equal_accuracies():
    class Alike(Planted):
        def validate(self, state, mixes):
            scores = super().validate(state, mixes)
            return scores_of(scores.metrics["loss"], 0 * scores.value)

    planted = Alike(CELL)
    genotype, _ = selection.perturbation(epochs=0)(planted.trained())
    assert genotype["cell"] == {row: option for row, (option, _) in planted.best("cell").items()}
    assert planted.tuned == []


@pytest.mark.parametrize("space", [SMALL, spaces.DARTS.subset("s1")], ids=["one table", "s1"])
def test_perturbation_decides_edges_and_then_the_topology(space):
    planted = Planted(space, seed=1)
    if "normal" in planted.worth:  # what the space cannot take tempts
        planted.worth["normal"][:, 0] = planted.worth["reduce"][:, 0] = 9.0
    genotype, record = selection.perturbation(epochs=1)(planted.trained())
    nodes = range(2, 2 + space.nodes)
    for part in ("normal", "reduce"):
        best = planted.best(part)
        for node in nodes:
            incoming = {row: best[row][1] for row in best if row.endswith(f">{node}")}
            kept = sorted(incoming, key=incoming.get)[-2:]
            found = {row: option for row, option in genotype[part].items() if row in incoming}
            assert found == {row: best[row][0] for row in kept}
    edges = len(space.rows)
    contested = space.nodes - 1  # the first node has two edges only
    assert [("row" in d) for d in record] == [True] * 2 * edges + [False] * 2 * contested
    assert {d["part"] for d in record[:2]} == {"normal", "reduce"}  # in turn
    assert len(planted.tuned) == edges + contested - 1
    last = planted.tuned[-1][0]  # all nodes but the last of each part are pruned
    live = sum((table.sum(-1) > 0).sum() for table in last.values())
    assert live == 2 * edges - sum(n - 2 for n in nodes) * 2 + _pruned_last(record)


def _pruned_last(record):
    return sum(len(d["without"]) - len(d["kept"]) for d in record[-2:])


def test_tables_of_edge_weights_are_left_alone():
    space = spaces.NASBench201(mixing=Mixing(edge_normalization=True))
    planted = Planted(space)
    planted.mix["cell.3"] = np.float32([[0.2, 0.5, 0.3]])
    for method in (selection.perturbation(1), selection.best_of_samples(5)):
        method(planted.trained())
    mixes = planted.mixes + [mix for mix, _ in planted.tuned]
    assert len(mixes) > 30
    assert all(np.array_equal(mix["cell.3"], planted.mix["cell.3"]) for mix in mixes)


def test_progressive_decides_the_most_certain_row_first_and_searches_on():
    class Searching(Planted):
        def resume(self, state, masks, steps):
            assert steps == 20
            seen.append(masks["cell"].copy())
            return state + 1, selection.masked({"cell": tables[state + 1]}, masks)

    planted = Searching(CELL)
    rng = np.random.default_rng(0)
    tables = [np.float32(rng.dirichlet(np.full(5, 0.5), 6)) for _ in range(6)]
    planted.mix = {"cell": tables[0]}
    seen = []

    genotype, record = selection.progressive(epochs=2)(planted.trained())
    _, rows, options = CELL.decisions["cell"]
    left = dict(enumerate(rows))
    for decision, table in zip(record, tables, strict=True):
        certainty = {
            i: 1 + (table[i] * np.log(table[i])).sum() / np.log(5) for i in left if table[i].all()
        }
        row = max(certainty, key=certainty.get)
        assert decision["row"] == left.pop(row)
        assert decision["option"] == options[table[row].argmax()] == genotype["cell"][rows[row]]
        np.testing.assert_allclose(decision["certainty"], certainty[row], rtol=1e-4)
    assert [int((mask.sum(-1) == 1).sum()) for mask in seen] == [1, 2, 3, 4, 5]


def test_progressive_topology_follows_the_strength_of_choices():
    planted = Planted(SMALL, seed=3)
    planted.mix = {n: np.float32(w) for n, w in planted.worth.items()}
    genotype, _ = selection.progressive(epochs=0)(planted.trained())
    assert genotype == SMALL.discretize(planted.mix)


def test_best_of_samples_is_the_best_of_those_drawn():
    planted = Planted(CELL)
    genotype, (record,) = selection.best_of_samples(40)(planted.trained())
    assert record["drawn"] == 40 and 30 < record["different"] == len(planted.mixes)
    values = [planted.value(mix) for mix in planted.mixes]
    assert all((mix["cell"].sum(-1) == 1).all() and mix["cell"].max() == 1 for mix in planted.mixes)
    np.testing.assert_allclose(record["accuracy"], max(values), rtol=1e-6)
    best = planted.value(selection.one_hot(CELL, genotype))
    np.testing.assert_allclose(best, max(values), rtol=1e-6)
    np.testing.assert_allclose([s["accuracy"] for s in record["scores"]], values, rtol=1e-6)


def test_same_key_same_choice_other_key_other_choice():
    planted = Planted(CELL)
    chosen = [selection.best_of_samples(3)(planted.trained(seed)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] and chosen[0].genotype != chosen[2].genotype
    orders = [selection.perturbation(0)(planted.trained(seed)).record for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_samples_follow_the_weights():
    space = spaces.NASBench201(nodes=2)
    mix = {"cell": np.float32([[0.0, 0.1, 0.2, 0.3, 0.4]])}
    rng = np.random.default_rng(0)
    for temperature in (1.0, 2.0):
        drawn = [
            selection.sample(space, mix, rng, temperature)["cell"]["0->1"] for _ in range(3000)
        ]
        counts = collections.Counter(drawn)
        expected = mix["cell"][0] ** (1 / temperature)
        expected /= expected.sum()
        found = [counts[option] / 3000 for option in space.operations]
        np.testing.assert_allclose(found, expected, atol=0.03)


def test_sampled_edges_are_drawn_without_replacement():
    space = spaces.DARTS(nodes=2, operations=("none", "skip_connect", "sep_conv_3x3"))
    table = np.float32([[0.2, 0.4, 0.4]] * 2 + [[0.2, 0.6, 0.2], [0.5, 0.1, 0.4], [0.8, 0.1, 0.1]])
    mix = {"normal": table, "reduce": table}
    rng = np.random.default_rng(0)
    drawn = [selection.sample(space, mix, rng)["normal"] for _ in range(3000)]
    counts = collections.Counter(frozenset(r for r in g if r.endswith("3")) for g in drawn)
    mass = {"0->3": 0.8, "1->3": 0.5, "2->3": 0.2}  # of what is not 'none'
    for pair in itertools.combinations(mass, 2):
        a, b = (mass[row] for row in pair)
        expected = a / 1.5 * b / (1.5 - a) + b / 1.5 * a / (1.5 - b)
        np.testing.assert_allclose(counts[frozenset(pair)] / 3000, expected, atol=0.03)
    skips = [g["0->3"] == "skip_connect" for g in drawn if "0->3" in g]
    np.testing.assert_allclose(np.mean(skips), 0.75, atol=0.03)


def test_neighbors_differ_in_one_row():
    space = spaces.DARTS(nodes=2, operations=("none", "skip_connect", "sep_conv_3x3"))
    skip, sep = "skip_connect", "sep_conv_3x3"
    first = {"0->2": skip, "1->2": sep}
    reduce = {**first, "0->3": sep, "2->3": sep}
    genotype = Genotype.create(
        "darts", {"normal": {**first, "0->3": skip, "1->3": sep}} | {"reduce": reduce}
    )

    def normal(**rows):
        rows = {f"{r[1]}->{r[2]}": option for r, option in rows.items()}
        return Genotype.create("darts", {"normal": {**first, **rows}, "reduce": reduce})

    by_row = {c.row: c for c in choices_of(space) if c.part == "normal"}
    assert set(neighbors(space, genotype, by_row["1->3"])) == {normal(e03=skip, e13=skip)}
    expected = {normal(e03=skip, e23=o) for o in (skip, sep)} | {
        normal(e13=sep, e23=o) for o in (skip, sep)
    }
    assert set(neighbors(space, genotype, by_row["2->3"])) == expected
    here = CELL.sample(np.random.default_rng(0))
    for choice in choices_of(CELL):
        near = neighbors(CELL, here, choice)
        differ = [{r for r, o in g["cell"].items() if o != here["cell"][r]} for g in near]
        assert len(set(near)) == 4 and differ == [{choice.row}] * 4


@pytest.mark.parametrize("space", [CELL, SMALL], ids=["all edges", "top edges"])
def test_local_search_climbs_to_the_best(space):
    planted = Planted(space, seed=2)
    genotype, record = selection.local_search(sweeps=5)(planted.trained())
    best = Planted(space, seed=2)
    expected, _ = selection.perturbation(0)(best.trained())  # additive: no interactions to miss
    assert genotype == expected
    steps = [(d["instead_of"]["accuracy"], d["accuracy"]) for d in record]
    assert steps and all(a < b for a, b in steps)
    assert all(b == c for (_, b), (c, _) in itertools.pairwise(steps))
    keys = [tuple(mix[n].tobytes() for n in sorted(mix)) for mix in planted.mixes]
    assert len(set(keys)) == len(keys)  # nothing is asked twice


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: selection.perturbation(-1), "epochs=-1"),
        (lambda: selection.progressive(-1), "epochs=-1"),
        (lambda: selection.best_of_samples(0), "count=0"),
        (lambda: selection.best_of_samples(1, 0.0), "temperature=0.0"),
        (lambda: selection.local_search(sweeps=0), "sweeps=0"),
        (lambda: selection.limited_skips(-1), "limit=-1"),
        (lambda: selection.largest_of_close(deviations=0.0), "deviations=0.0"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
