"""Selections by the mixing weights alone."""

import numpy as np
import pytest
from test_selection import CELL, SMALL, Planted

from dnas import selection, spaces


def test_strongest_is_what_the_space_says():
    planted = Planted(CELL)
    planted.mix["cell"][:, 3] = 0.9
    genotype, record = selection.strongest()(planted.shared())
    assert set(genotype["cell"].values()) == {"nor_conv_3x3"} and record == []


def test_the_weakest_skip_connections_give_way():
    planted = Planted(CELL)
    rows, (_, skip, *_, pool) = CELL.decisions["cell"]
    planted.mix["cell"] = np.float32([[0.1, s, 0.1, 0.1, 0.2] for s in (3, 1, 6, 4, 0.1, 2)])
    free = selection.strongest()(planted.shared()).genotype["cell"]
    assert list(free.values()).count(skip) == 5
    for limit in range(6):
        genotype, record = selection.limited_skips(limit)(planted.shared())
        weakest = [1, 5, 0, 3, 2][: 5 - limit]
        assert [d["row"] for d in record] == [rows[i] for i in weakest]
        assert genotype["cell"] == free | {rows[i]: pool for i in weakest}


def test_without_a_skip_connection_another_edge_may_win():
    planted = Planted(SMALL)
    # Node 3 has the edges from 0, 1 and 2, which are rows 2 to 4; options: none, skip, conv.
    normal = np.float32([[0, 2, 1], [0, 3, 1], [9, 5, 0.1], [9, 4, 0.3], [9, 0.1, 0.2]])
    normal = np.concatenate([normal, np.float32([[0, 0.1, 1]] * 4)])
    planted.mix = {"normal": normal, "reduce": np.float32([[0, 1, 0.1]] * 9)}
    chosen = selection.limited_skips(2)(planted.shared())
    assert [d["row"] for d in chosen.record] == ["0->2", "1->2"]
    assert {row: chosen.genotype["normal"].get(row) for row in SMALL.rows[:5]} == {
        "0->2": "sep_conv_3x3",
        "1->2": "sep_conv_3x3",
        "0->3": "skip_connect",
        "1->3": "skip_connect",
        "2->3": None,
    }
    chosen = selection.limited_skips(1)(planted.shared())
    assert chosen.genotype["normal"]["1->3"] == "sep_conv_3x3"  # 0.3 is more than 0.2
    chosen = selection.limited_skips(0)(planted.shared())
    assert {"1->3", "2->3"} < set(chosen.genotype["normal"])  # and 0.1 is less
    # Other parts are left alone, unless they are asked for.
    assert set(chosen.genotype["reduce"].values()) == {"skip_connect"}
    both = selection.limited_skips(1, every_part=True)(planted.shared())
    counts = {
        p: list(both.genotype[p].values()).count("skip_connect") for p in ("normal", "reduce")
    }
    assert counts == {"normal": 1, "reduce": 1}
    assert [d["part"] for d in both.record].count("normal") == len(
        selection.limited_skips(1)(planted.shared()).record
    )


def test_where_no_other_option_has_weight_the_first_operation_is_taken():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.eye(5, dtype=np.float32)[1], (6, 1))  # as sparsemax may end
    genotype, record = selection.limited_skips(2)(planted.shared())
    options = list(genotype["cell"].values())
    assert options == ["nor_conv_1x1"] * 4 + ["skip_connect"] * 2 and len(record) == 4


def test_skip_connections_without_an_alternative_stay():
    space = spaces.NASBench201(nodes=3, operations=("skip_connect",))
    genotype, record = selection.limited_skips(0)(Planted(space).shared())
    assert set(genotype["cell"].values()) == {"skip_connect"} and len(record) == 3


def sized(planted, sizes=(0, 0, 1, 9, 0)):
    """With the number of parameters of each option, in all rows."""
    tables = {n: np.tile(sizes, (len(d.rows), 1)) for n, d in planted.space.decisions.items()}
    return planted.shared(parameters=lambda: tables)


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.01])
def test_the_largest_of_close_options_is_taken_whatever_the_scale(scale):
    planted = Planted(CELL)
    # Logarithms of none, skip, 1x1, 3x3, pooling: their standard deviation is 1.08.
    logits = np.float64([[0, 2, 0.9, 1, 0], [0, 3, 0, 1.8, 0], [0, 0, 3, 2, 2.5]] * 2)
    logits[5] = 0, 0.4, 2.5, 0, 0.5
    planted.mix["cell"] = np.exp(scale * logits).astype(np.float32)
    genotype, record = selection.largest_of_close()(sized(planted))
    assert logits.std() == pytest.approx(1.08, abs=0.01)
    options = dict(zip(CELL.decisions["cell"].rows, genotype["cell"].values(), strict=True))
    assert list(options.values()) == [
        *("nor_conv_3x3", "skip_connect", "nor_conv_3x3"),  # 1.0, 1.2 and 1.0 behind
        *("nor_conv_3x3", "skip_connect", "nor_conv_1x1"),  # 2.5 behind
    ]
    assert [line["row"] for line in record] == ["0->1", "1->2", "0->3"]
    assert record[0]["option"] == "nor_conv_3x3" and record[0]["rather_than"] == "skip_connect"
    np.testing.assert_allclose([line["behind"] / scale for line in record], 1.0, rtol=1e-4)
    more = selection.largest_of_close(deviations=1.2)(sized(planted)).genotype
    assert more["cell"]["0->2"] == "nor_conv_3x3"


def test_what_leads_gives_its_weight_to_the_largest_so_that_the_same_edges_are_kept():
    planted = Planted(SMALL)
    rng = np.random.default_rng(0)
    for name, table in planted.mix.items():
        edges = rng.permutation(len(table))[:, None]
        planted.mix[name] = np.exp([0.0, 0.2, 0.1] + 0.1 * edges).astype(np.float32)
    before = selection.strongest()(planted.shared()).genotype
    after = selection.largest_of_close()(sized(planted, (0, 0, 1))).genotype
    for part in before.parts():
        assert list(before[part]) == list(after[part])
        assert set(before[part].values()) == {"skip_connect"}
        assert set(after[part].values()) == {"sep_conv_3x3"}


def test_options_without_weight_are_never_close():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.float32([0.2, 0.4, 0.4, 0, 0]), (6, 1))
    genotype, _ = selection.largest_of_close()(sized(planted))
    assert set(genotype["cell"].values()) == {"nor_conv_1x1"}
    planted.mix["cell"][0] = 0.0
    assert all(
        line["row"] != "0->1" for line in selection.largest_of_close()(sized(planted)).record
    )


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
    shared = planted.shared()
    assert selection.largest_of_close(start)(shared) == start(shared)
    assert planted.mix["cell"][0].argmax() == 1
