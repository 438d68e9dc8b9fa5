"""Selections by the mixing weights alone."""

import functools

import numpy as np
import pytest
from planted import CELL, SMALL, Planted

from dnas import costs, selection, spaces
from dnas.choices import choices_of
from dnas.space import Mixing
from dnas.tasks import Classification


def test_strongest_is_what_the_space_says():
    planted = Planted(CELL)
    planted.mix["cell"][:, 3] = 0.9
    genotype, record = selection.strongest()(planted.trained())
    assert set(genotype["cell"].values()) == {"nor_conv_3x3"} and record == []


def test_the_weakest_skip_connections_give_way():
    planted = Planted(CELL)
    _, rows, (_, skip, *_, pool) = CELL.decisions["cell"]
    planted.mix["cell"] = np.float32([[0.1, s, 0.1, 0.1, 0.2] for s in (3, 1, 6, 4, 0.1, 2)])
    free = selection.strongest()(planted.trained()).genotype["cell"]
    assert list(free.values()).count(skip) == 5
    for limit in range(6):
        genotype, record = selection.limited_skips(limit)(planted.trained())
        weakest = [1, 5, 0, 3, 2][: 5 - limit]
        assert [d["row"] for d in record] == [rows[i] for i in weakest]
        assert genotype["cell"] == free | {rows[i]: pool for i in weakest}


def test_without_a_skip_connection_another_edge_may_win():
    planted = Planted(SMALL)
    # Node 3 has the edges from 0, 1 and 2, which are rows 2 to 4; options: none, skip, conv.
    normal = np.float32([[0, 2, 1], [0, 3, 1], [9, 5, 0.1], [9, 4, 0.3], [9, 0.1, 0.2]])
    normal = np.concatenate([normal, np.float32([[0, 0.1, 1]] * 4)])
    planted.mix = {"normal": normal, "reduce": np.float32([[0, 1, 0.1]] * 9)}
    chosen = selection.limited_skips(2)(planted.trained())
    assert [d["row"] for d in chosen.record] == ["0->2", "1->2"]
    assert {row: chosen.genotype["normal"].get(row) for row in SMALL.rows[:5]} == {
        "0->2": "sep_conv_3x3",
        "1->2": "sep_conv_3x3",
        "0->3": "skip_connect",
        "1->3": "skip_connect",
        "2->3": None,
    }
    chosen = selection.limited_skips(1)(planted.trained())
    assert chosen.genotype["normal"]["1->3"] == "sep_conv_3x3"  # 0.3 is more than 0.2
    chosen = selection.limited_skips(0)(planted.trained())
    assert {"1->3", "2->3"} < set(chosen.genotype["normal"])  # and 0.1 is less
    # Other parts are left alone, unless they are asked for.
    assert set(chosen.genotype["reduce"].values()) == {"skip_connect"}
    both = selection.limited_skips(1, every_part=True)(planted.trained())
    counts = {
        p: list(both.genotype[p].values()).count("skip_connect") for p in ("normal", "reduce")
    }
    assert counts == {"normal": 1, "reduce": 1}
    assert [d["part"] for d in both.record].count("normal") == len(
        selection.limited_skips(1)(planted.trained()).record
    )


def test_where_no_other_option_has_weight_the_first_operation_is_taken():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.eye(5, dtype=np.float32)[1], (6, 1))  # as sparsemax may end
    genotype, record = selection.limited_skips(2)(planted.trained())
    options = list(genotype["cell"].values())
    assert options == ["nor_conv_1x1"] * 4 + ["skip_connect"] * 2 and len(record) == 4


def test_skip_connections_without_an_alternative_stay():
    space = spaces.NASBench201(nodes=3, operations=("skip_connect",))
    genotype, record = selection.limited_skips(0)(Planted(space).trained())
    assert set(genotype["cell"].values()) == {"skip_connect"} and len(record) == 3


def sized(planted, sizes=(0, 0, 1, 9, 0)):
    """With the number of parameters of each option, in all rows or each."""
    shapes = {n: (len(d.rows), len(d.options)) for n, d in planted.space.decisions.items()}
    tables = {n: np.broadcast_to(sizes, shape) for n, shape in shapes.items()}
    return planted.trained(parameters=lambda: tables)


def softmax(logits, scale=1.0):
    weights = np.exp(scale * np.asarray(logits, np.float64))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


LOGITS = np.float64(  # of none, skip, 1x1, 3x3, pooling; the median deviation of rows is 1.13
    [
        *([0, 2, 0.9, 1, -1], [0, 3, 0, 1.75, 0], [0, 0.5, 3, 2, 2.5]),
        *([0, 2, 0.9, 1, -1], [0, 2.25, 0, 1, 0], [0, 0.4, 2.5, 0, 0.5]),
    ]
)
CHOSEN = [  # 1.0, 1.25, 1.0, 1.0, 1.25 and 2.5 behind
    *("nor_conv_3x3", "skip_connect", "nor_conv_3x3"),
    *("nor_conv_3x3", "skip_connect", "nor_conv_1x1"),
]


@pytest.mark.parametrize("scale", [0.4, 0.1, 0.01])
def test_the_largest_of_close_options_is_taken_whatever_the_scale(scale):
    planted = Planted(CELL)
    planted.mix["cell"] = softmax(LOGITS, scale)
    genotype, record = selection.largest_of_close()(sized(planted))
    assert np.median(LOGITS.std(-1, ddof=1)) == pytest.approx(1.13, abs=0.01)
    assert [genotype["cell"][row] for row in CELL.decisions["cell"].rows] == CHOSEN
    assert [line["row"] for line in record] == ["0->1", "1->2", "0->3"]
    assert record[0]["option"] == "nor_conv_3x3" and record[0]["rather_than"] == "skip_connect"
    np.testing.assert_allclose([line["behind"] / scale for line in record], 1.0, rtol=1e-3)
    more = selection.largest_of_close(deviations=1.2)(sized(planted)).genotype
    assert more["cell"]["0->2"] == "nor_conv_3x3"


def test_one_tiny_weight_brings_nothing_closer():
    planted = Planted(CELL)
    planted.mix["cell"] = softmax(LOGITS, 0.4)
    planted.mix["cell"][5, 0] = 1e-30
    genotype, _ = selection.largest_of_close()(sized(planted))
    assert [genotype["cell"][row] for row in CELL.decisions["cell"].rows] == CHOSEN


def test_half_the_weight_is_never_close_however_decided_other_rows_are():
    planted = Planted(CELL)
    planted.mix["cell"] = softmax(10 * LOGITS)
    planted.mix["cell"][0] = [0.0, 0.51, 0.49, 0.0, 0.0]
    planted.mix["cell"][3] = [0.0, 0.67, 0.33, 0.0, 0.0]
    record = selection.largest_of_close()(sized(planted)).record
    assert [line["row"] for line in record] == ["0->1"]


def test_a_skip_connection_counts_as_none_strided_or_not():
    """In reduction cells it has parameters, and a pooling has none."""
    space = spaces.DARTS(nodes=2, operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3"))
    planted = Planted(space)
    tables = costs.parameters(space, Classification((8, 8, 3), 10))
    assert tables["reduce"][0, 1] > tables["reduce"][0, 0] == 0
    planted.mix = {
        n: np.tile(np.float32([0.4, 0.39, 0.21]), (len(m), 1)) for n, m in planted.mix.items()
    }
    assert selection.largest_of_close()(planted.trained(parameters=lambda: tables)).record == []


def test_sizes_are_those_of_the_row_and_weights_decide_where_they_tie():
    planted = Planted(CELL)
    planted.mix["cell"] = softmax(LOGITS, 0.4)
    sizes = np.zeros((6, 5))
    sizes[0, 2] = 1
    genotype, record = selection.largest_of_close(deviations=1.1)(sized(planted, sizes))
    (line,) = record
    assert (line["row"], line["option"]) == ("0->1", "nor_conv_1x1")
    assert genotype["cell"]["0->2"] == "skip_connect"


def test_options_change_weights_and_edges_have_none_to_change():
    space = spaces.NASBench201(mixing=Mixing(edge_normalization=True))
    planted, seen = Planted(space), []
    planted.mix["cell"] = softmax(LOGITS, 0.4)
    planted.mix["cell"][0] = 0.2
    sizes = np.broadcast_to((0, 0, 1, 9, 0), (6, 5))
    trained = planted.trained(parameters=lambda: {"cell": sizes})

    def start(trained):
        seen.append(trained.mix)
        return selection.strongest()(trained)

    genotype, _ = selection.largest_of_close(start)(trained)
    before, (after,) = planted.mix, seen
    np.testing.assert_array_equal(after["cell"][1], before["cell"][1])
    np.testing.assert_array_equal(after["cell"][2], before["cell"][2][[0, 1, 3, 2, 4]])
    np.testing.assert_allclose(after["cell"][0], 0.2, rtol=1e-6)
    assert genotype["cell"]["0->1"] == "nor_conv_3x3"  # where all tie
    for name in set(before) - {"cell"}:
        np.testing.assert_array_equal(after[name], before[name])


def test_options_that_cannot_be_taken_are_not_close_to_anything():
    """The 'none' of DARTS leads everywhere, by far or not; the others are 0.25 and 0.3 apart."""
    planted = Planted(SMALL)
    near, far = [0, 0.1, 0.35], [0.9, 0.1, -0.2]
    planted.mix = {n: softmax([near] * 3 + [far] * 6) for n in planted.mix}
    (table, *_), parameters = planted.mix, sized(planted, (99, 0, 9)).parameters
    genotype, record = selection.largest_of_close()(planted.trained(parameters=parameters))
    # The median deviation is 0.3 over the root of 2, or 0.21, which all leads exceed.
    assert record == [] and genotype == selection.strongest()(planted.trained()).genotype
    planted.mix[table][0] = softmax([0, 0.3, 0.1])
    (line,) = selection.largest_of_close()(planted.trained(parameters=parameters)).record
    assert (line["option"], line["rather_than"]) == ("sep_conv_3x3", "skip_connect")


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_spaces_with_two_options_a_row(name):
    """In S1 each edge has a table of its own."""
    space = spaces.DARTS.subset(name, channels=4, cells=3)
    costs_of = functools.partial(costs.parameters, space, Classification((8, 8, 3), 10))
    planted, rng = Planted(space), np.random.default_rng(1)
    planted.mix = {n: softmax(rng.normal(size=t.shape)) for n, t in planted.mix.items()}
    _, record = selection.largest_of_close()(planted.trained(parameters=costs_of))
    changed = {(line["part"], line["row"]) for line in record}
    expected = set()
    for part in {choice.part for choice in choices_of(space)}:
        rows = [choice for choice in choices_of(space) if choice.part == part]
        logits = [np.log(planted.mix[c.table][c.index][list(c.allowed)]) for c in rows]
        limit = np.median([np.std(row, ddof=1) for row in logits if len(row) > 1])
        for choice, row in zip(rows, logits, strict=True):
            sizes = costs_of()[choice.table][choice.index][list(choice.allowed)]
            close = row >= row.max() - limit
            if sizes[row.argmax()] < sizes[close].max():
                expected.add((part, choice.row))
    assert changed == expected and expected


def test_the_same_edges_are_kept():
    planted = Planted(SMALL)
    rng = np.random.default_rng(0)
    for name, table in planted.mix.items():
        leads = np.where(np.arange(len(table)) % 2, 0.1, 0.3)[:, None] * [0, 1, 0]
        edges = 0.1 * rng.permutation(len(table))[:, None]
        planted.mix[name] = np.exp([0.0, 0.1, 0.1] + leads + edges).astype(np.float32)
    before = selection.strongest()(planted.trained()).genotype
    after, record = selection.largest_of_close()(sized(planted, (0, 0, 1)))
    assert before.parts() == after.parts() and len(record) == 8
    for part in before.parts():
        assert list(before[part]) == list(after[part])
        assert set(before[part].values()) == {"skip_connect"}
    changed = {(line["part"], line["row"]) for line in record}
    for part in after.parts():
        for row, option in after[part].items():
            assert (option == "sep_conv_3x3") == ((part, row) in changed)


def test_options_without_weight_are_never_close():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.float32([0.2, 0.4, 0.4, 0, 0]), (6, 1))
    genotype, _ = selection.largest_of_close()(sized(planted))
    assert set(genotype["cell"].values()) == {"nor_conv_1x1"}
    planted.mix["cell"][0] = 0.0
    assert all(
        line["row"] != "0->1" for line in selection.largest_of_close()(sized(planted)).record
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_left_for_the_space_to_refuse(wrong):
    planted = Planted(CELL)
    planted.mix["cell"] = softmax(LOGITS, 0.4)
    planted.mix["cell"][0, 4] = wrong
    with pytest.raises(ValueError, match="not finite"):
        selection.largest_of_close()(sized(planted))


def test_another_selection_goes_on_with_the_largest_of_close():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.float32([0.1, 0.4, 0.1, 0.15, 0.25]), (6, 1))
    planted.mix["cell"][:3, 3] = 0.39
    start = selection.limited_skips(1)
    genotype, record = selection.largest_of_close(start)(sized(planted))
    expected = ["nor_conv_3x3"] * 3 + ["avg_pool_3x3"] * 2 + ["skip_connect"]
    assert sorted(genotype["cell"].values()) == sorted(expected)
    assert ["rather_than" in line for line in record] == [True] * 3 + [False] * 2
    # Without parameters it is that selection alone, and nothing changes in the supernet's weights.
    trained = planted.trained()
    genotype, record = selection.largest_of_close(start)(trained)
    assert (genotype, record[1:]) == start(trained) and record[0] == {"parameters": "unknown"}
    assert planted.mix["cell"][0].argmax() == 1
