"""The moves of short trainings: of one row, of many, and back."""

import numpy as np
import pytest
from planted import CELL, SMALL, Planted
from test_racing import IMAGES, ROWS, conv_cell, search_of, single, skips_of, taken

from dnas import selection
from dnas.choices import choices_of
from dnas.strategies.moves import Option, Without


@pytest.mark.parametrize("rows", [6, 3])
def test_what_is_worse_only_in_all_rows_together_is_done_without(rows):
    planted = conv_cell()
    planted.mix["cell"][rows:] = [0.1, 0.2, 0.35, 0.15, 0.2]  # 1x1 convolutions

    def reached(mix):  # 0.8 standard errors for each
        return 0.5 - 0.018 * float((mix["cell"].argmax(-1) == 3).sum())

    search, _ = search_of(planted, reached)
    genotype, record = selection.short_trainings()(search)
    if rows == 6:
        assert set(genotype["cell"].values()) == {"skip_connect"}  # the next likely option
        assert [line.get("without") for line in taken(record)] == ["nor_conv_3x3"]
    else:  # 2.4
        assert genotype == selection.strongest()(search).genotype and not taken(record)


@pytest.mark.parametrize(("alone", "kept"), [(0.76, False), (0.74, True)])
def test_a_move_is_undone_that_others_made_needless(alone, kept):
    """Of 0->1 and 0->3 the first one gains more early, the second one late."""
    early = {(): 0.3, (0,): 0.64, (3,): 0.55, (0, 3): 0.71}
    late = {(): 0.6, (0,): 0.7, (3,): alone, (0, 3): 0.82}  # 3.3 or 4.3 standard errors
    search, _ = single(lambda steps, k: (1.0, (early if steps == 10 else late).get(k, 0.2)))
    genotype, record = selection.short_trainings()(search)
    assert skips_of(genotype) == (["0->1", "0->3"] if kept else ["0->3"])
    assert [line["row"] for line in taken(record)] == ["0->1", "0->3"]
    undone = [line["undone"]["row"] for line in record if "undone" in line]
    assert undone == ([] if kept else ["0->1"])


def test_moves_are_undone_one_after_the_other():
    """Three skip connections are taken in turn; the last one alone would do."""
    early = {(): 0.3, (0,): 0.7, (1,): 0.6, (2,): 0.5, (0, 1): 0.8, (0, 2): 0.77, (0, 1, 2): 0.9}
    late = {(): 0.3, (0,): 0.4, (0, 1): 0.5, (0, 1, 2): 0.6, (1, 2): 0.6, (2,): 0.6}

    search, _ = single(lambda steps, k: (1.0, (early if steps == 10 else late).get(k, 0.2)))
    genotype, record = selection.short_trainings()(search)
    assert [line["row"] for line in taken(record)] == ["0->1", "0->2", "1->2"]
    assert [line["undone"]["row"] for line in record if "undone" in line] == ["0->1", "0->2"]
    assert skips_of(genotype) == ["1->2"]


def test_rows_that_can_be_nothing_else_keep_the_operation(monkeypatch):
    only, *others = choices_of(CELL)
    choices = (only._replace(allowed=(3,)), *others)
    monkeypatch.setattr("dnas.strategies.moves.choices_of", lambda space: choices)
    search, _ = search_of(conv_cell(), None)
    start = selection.strongest()(search).genotype
    moved = Without("nor_conv_3x3").apply(CELL, search.mix, start)
    assert list(moved["cell"].values()) == ["nor_conv_3x3", *5 * ["skip_connect"]]


def test_an_edge_that_was_left_out_takes_the_place_of_the_weakest():
    planted = Planted(SMALL)
    start = selection.strongest()(planted.trained()).genotype
    every = [choice for choice in choices_of(SMALL) if choice.row[-1] == "4"]
    left_out = next(choice for choice in every if choice.row not in start[choice.part])
    kept = [row for row in start[left_out.part] if row[-1] == "4"]
    for strong, weak in (kept, kept[::-1]):
        mix = {name: table.copy() for name, table in planted.mix.items()}
        mix[left_out.table][SMALL.part(left_out.part).rows.index(strong)] += 0.1
        moved = Option(left_out, 2).apply(SMALL, mix, start)
        assert set(moved[left_out.part]) == set(start[left_out.part]) - {weak} | {left_out.row}
        assert moved[left_out.part][left_out.row] == "sep_conv_3x3"


def twice(late, early=None):
    """Short trainings where accuracies with some initial weights follow from the edges with skips.

    Those of short trainings are those of long ones with the first weights, but for `early`.
    """
    trained = []

    def train(steps, mixes, weights=0):
        keys = [tuple(np.flatnonzero(rows == 1)) for rows in mixes["cell"].argmax(-1)]
        trained.extend((weights, key) for key in keys if weights)
        found = np.array([late.get(key, (0.2, 0.2, 0.2))[weights] for key in keys])
        if early and steps == 10:
            found = np.array([early.get(key, 0.2) for key in keys])
        return -found, found

    return conv_cell().trained(train=train, images=IMAGES), trained


def test_what_gained_by_the_luck_of_the_first_weights_is_not_taken():
    """With others 2->3 gains 0.9 standard errors, 2.9 on average; 0->3 gains 4.5 and 5.4."""
    search, trained = twice({(): (0.5, 0.5), (5,): (0.61, 0.52), (3,): (0.6, 0.62)})
    genotype, (first, second, *_, summary) = selection.short_trainings(rivals=1)(search)
    assert skips_of(genotype) == ["0->3"] and summary["confirmations"] == 3
    assert (first["row"], first["taken"]) == ("2->3", False) and first["sigmas"] > 4
    (again,) = first["confirmations"]
    assert again["accuracy"] == 0.52 and again["instead_of"]["accuracy"] == 0.5
    assert again["sigmas"] == pytest.approx(0.895, abs=0.001)
    assert (second["row"], second["taken"]) == ("0->3", True)
    assert trained == [(1, ()), (1, (5,)), (1, (3,))]


def test_the_next_of_significant_moves_is_confirmed_where_the_best_is_not():
    reached = {(): (0.5, 0.5), (5,): (0.62, 0.45), (3,): (0.61, 0.7), (1,): (0.6, 0.8)}
    search, trained = twice(reached)
    genotype, record = selection.short_trainings()(search)
    # 0->2, which is best with the other weights, is not asked.
    assert skips_of(genotype) == ["0->3"]
    assert trained == [(1, ()), (1, (5,)), (1, (3,))]
    (line,) = taken(record)
    assert line["row"] == "0->3" and line["confirmations"][0]["accuracy"] == 0.7
    confirmed = {p["row"]: p["confirmations"] for p in line["proposed"] if p["confirmations"]}
    assert {row: [c["accuracy"] for c in scores] for row, scores in confirmed.items()} == {
        "2->3": [0.45],
        "0->3": [0.7],
    }


@pytest.mark.parametrize("confirmations", [0, 1])
def test_without_confirmations_the_first_weights_decide(confirmations):
    search, trained = twice({(): (0.5, 0.5), (5,): (0.62, 0.5)})
    genotype, record = selection.short_trainings(confirmations=confirmations)(search)
    assert skips_of(genotype) == (["2->3"] if confirmations == 0 else [])
    assert record[-1]["confirmations"] == len(trained) == 2 * confirmations


def test_what_gains_much_with_the_first_weights_may_gain_less_with_others():
    search, _ = twice({(): (0.3, 0.5), (5,): (0.5, 0.58)})  # 9.4 and 3.6 standard errors
    genotype, record = selection.short_trainings()(search)
    assert skips_of(genotype) == ["2->3"] and record[0]["confirmations"][0]["sigmas"] < 4


@pytest.mark.parametrize(("last", "moves"), [(0.52, 0), (0.6, 1)])
def test_all_confirmations_have_to_agree(last, moves):
    """On average over all that were asked: 0.1 is 4.5 standard errors, 0.02 is 0.9."""
    search, trained = twice({(): (0.5, 0.5, 0.5), (5,): (0.6, 0.6, last)})
    genotype, _ = selection.short_trainings(confirmations=2)(search)
    assert skips_of(genotype) == moves * ["2->3"]
    assert {weights for weights, _ in trained} == {1, 2}
    search, trained = twice({(): (0.5, 0.5, 0.5), (5,): (0.6, 0.52, 0.9)})
    assert not skips_of(selection.short_trainings(confirmations=2)(search).genotype)
    assert {weights for weights, _ in trained} == {1}  # where one does not, no other is asked


@pytest.mark.parametrize(("alone", "fewest"), [(0.60, True), (0.50, False)])
def test_of_equals_the_move_that_changes_least_is_taken(alone, fewest):
    """To do without 3x3 convolutions is best, a skip connection on 0->3 a little worse, or much."""
    all_six = tuple(range(6))
    search, _ = twice({(): (0.3, 0.3), all_six: (0.62, 0.62), (3,): (alone, alone)})
    genotype, record = selection.short_trainings(sigmas=10.0)(search)
    assert skips_of(genotype) == (["0->3"] if fewest else list(ROWS))
    (line,) = taken(record)
    assert len(line["proposed"]) > 1


@pytest.mark.parametrize(("other", "kept"), [(0.78, False), (0.4, True)])
def test_no_move_is_undone_that_is_needed_with_other_weights(other, kept):
    """0->1 is taken first; 0->3 alone is as good as both, with the first weights."""
    early = {(): 0.3, (0,): 0.64, (3,): 0.55, (0, 3): 0.71}
    late = {(): (0.6, 0.2), (0,): (0.7, 0.7), (3,): (0.76, other), (0, 3): (0.82, 0.82)}
    search, _ = twice(late, early)
    genotype, record = selection.short_trainings()(search)
    assert [line["row"] for line in taken(record)] == ["0->1", "0->3"]
    assert skips_of(genotype) == (["0->1", "0->3"] if kept else ["0->3"])
