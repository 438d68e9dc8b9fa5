"""Short trainings on planted problems, where what an architecture reaches is a sum or a rule."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from planted import CELL, Planted

from dnas import selection
from dnas.choices import one_hot

_, ROWS, OPTIONS = CELL.decisions["cell"]
IMAGES = 1000


def search_of(planted, reached, images=IMAGES):
    """A supernet whose architectures reach what a function of their mixing weights says."""
    trained = []

    def train(steps, mixes, weights=0):
        count = len(next(iter(mixes.values())))
        mine = [{n: t[i] for n, t in mixes.items()} for i in range(count)]
        trained.extend((steps, mix) for mix in mine)
        values = np.array([reached(mix) for mix in mine])
        return -values, values

    return planted.trained(train=train, images=images), trained


def taken(record):
    """The lines of the moves that were taken, and not undone later or proposed only."""
    return [line for line in record if line.get("taken")]


def skips_of(genotype):
    """The rows with skip connections."""
    return [row for row, option in genotype["cell"].items() if option == "skip_connect"]


def chain(mix):
    """Convolutions are worth a little, a skip connection on '0->3' much if 2->3 has none."""
    skips = {row for row, w in zip(ROWS, mix["cell"], strict=True) if w.argmax() == 1}
    deep = 0.3 if "0->3" in skips else 0.2 if "2->3" in skips else 0.0
    return 0.4 + deep - 0.005 * len(skips)


def conv_cell():
    planted = Planted(CELL)
    planted.mix["cell"] = np.tile(np.float32([0.1, 0.2, 0.15, 0.35, 0.2]), (6, 1))
    return planted


def test_only_significant_moves_are_taken_and_stale_ones_are_tried_again():
    search, trained = search_of(conv_cell(), chain)
    genotype, record = selection.short_trainings(epochs=1.5)(search)
    expected = dict.fromkeys(ROWS, "nor_conv_3x3") | {"0->3": "skip_connect"}
    assert dict(genotype["cell"]) == expected
    # 2->3 gained, too, but not where 0->3 has led; that took one more training, as did four others
    # that gained least before, to know what to propose in the end.
    *lines, summary = record
    move, *others = lines
    assert (move["row"], move["option"]) == ("0->3", "skip_connect")
    # The start, the cell without convolutions (all skips: as good, at first), each single move; the
    # longer ones are of the start, those two, and of four more in the end.
    assert summary == {"trainings": 1 + 1 + 24 + 5, "longer": 1 + 2 + 4, "confirmations": 2}
    assert sorted(steps for steps, _ in trained) == 31 * [15] + 9 * [60]
    assert move["taken"] and [line["taken"] for line in others] == [False]
    error = np.sqrt((0.4 * 0.6 + 0.695 * 0.305) / IMAGES)
    np.testing.assert_allclose(move["sigmas"], 0.295 / error, rtol=1e-6)
    assert move["instead_of"]["accuracy"] == pytest.approx(0.4)


@pytest.mark.parametrize(("rivals", "winner"), [(4, "avg_pool_3x3"), (1, "skip_connect")])
def test_moves_that_gain_as_much_are_trained_longer(rivals, winner):
    early = {"skip_connect": 0.62, "avg_pool_3x3": 0.6, "none": 0.5}
    late = {"skip_connect": 0.66, "avg_pool_3x3": 0.7}

    def reached(steps, mix):
        if not (mix["cell"].argmax(-1) == 3).any():
            return 0.2
        return (early if steps == 10 else late).get(OPTIONS[mix["cell"][3].argmax()], 0.3)

    trained = []

    def train(steps, mixes, weights=0):
        trained.extend((steps, mix) for mix in mixes["cell"])
        values = np.array([reached(steps, {"cell": mix}) for mix in mixes["cell"]])
        return -values, np.round(values, 1) if steps == 40 else values  # they look alike

    genotype, record = selection.short_trainings(rivals=rivals)(conv_cell().trained(train=train))
    assert genotype["cell"]["0->3"] == winner
    # 0.5 is significantly worse than 0.62 at 1,000 images, and no rival of it.
    options = [place["option"] for place in record[0]["proposed"]]
    assert options == (["skip_connect", "avg_pool_3x3"] if rivals > 1 else ["skip_connect"])
    assert record[0]["instead_of"]["accuracy"] == pytest.approx(0.3)


def single(reached):
    """Short trainings where (loss, accuracy) follow from the steps and the edges with skips."""
    trained = []

    def train(steps, mixes, weights=0):
        keys = [tuple(np.flatnonzero(rows == 1)) for rows in mixes["cell"].argmax(-1)]
        trained.extend((steps, key) for key in keys)
        return tuple(np.array([reached(steps, key) for key in keys]).T)

    return conv_cell().trained(train=train, images=IMAGES), trained


@pytest.mark.parametrize("accuracy", [0.52, 0.45])
def test_the_least_loss_counts_among_significant_gains_only(accuracy):
    def reached(steps, skips):
        late = {(): (1.5, 0.5), (3,): (1.3, 0.65), (5,): (1.2, accuracy)}
        early = {(): (1.5, 0.3), (3,): (1.3, 0.5), (5,): (1.3, 0.5)}
        return (early if steps == 10 else late).get(skips, (2.0, 0.2))

    search, _ = single(reached)
    genotype, record = selection.short_trainings()(search)
    assert skips_of(genotype) == ["0->3"]
    assert len(record[0]["proposed"]) == 2 and len(taken(record)) == 1


def test_what_was_rejected_is_not_proposed_again():
    def reached(steps, skips):
        if steps == 10:
            return 1.0, {(): 0.3, (3,): 0.5, (5,): 0.5, (1,): 0.36, (2,): 0.35}.get(skips, 0.2)
        return 1.0, {(1,): 0.6}.get(skips, 0.5)

    search, _ = single(reached)
    genotype, record = selection.short_trainings()(search)
    assert genotype["cell"]["0->2"] == "skip_connect"
    proposed = [[line["row"] for line in round["proposed"]] for round in record[:-1]]
    assert proposed[0] == ["0->3", "2->3"] and not record[0]["taken"]
    # 0.36 is 2.9 standard errors more than 0.3: it waits for the end.
    assert len(proposed[1]) == 4 and proposed[1][:2] == ["0->2", "1->2"] and record[1]["taken"]
    later = [line for round in record[1:-1] for line in round["proposed"]]
    skips = [line["row"] for line in later if line.get("option") == "skip_connect"]
    assert "1->2" in skips and not {"0->3", "2->3"} & set(skips)


def test_moves_that_lead_to_the_same_or_nowhere_are_proposed_once():
    """One edge is a 1x1 convolution: to change it and to do without them is the same."""
    planted = conv_cell()
    planted.mix["cell"][0] = [0.1, 0.35, 0.4, 0.05, 0.1]
    search, _ = search_of(planted, lambda mix: 0.8 - 0.3 * float(mix["cell"][0, 2] > 0))
    genotype, record = selection.short_trainings()(search)
    assert genotype["cell"]["0->1"] == "skip_connect"
    proposed = [line for round in record[:-1] for line in round["proposed"]]
    assert "nor_conv_1x1" not in [line.get("without") for line in proposed]


def test_moves_are_tried_again_only_while_trainings_are_left():
    search, trained = search_of(conv_cell(), chain)
    _, record = selection.short_trainings(count=26)(search)
    assert record[-1]["trainings"] == 26 and taken(record)[0]["row"] == "0->3"
    assert sum(steps == 10 for steps, _ in trained) == 26


@pytest.mark.parametrize(("count", "skips"), [(28, ["0->1", "0->3"]), (27, ["0->3"])])
def test_moves_are_proposed_by_what_they_gain_where_others_led(count, skips):
    """A skip connection on 2->3 or 0->2 is worth much without one on 0->3 only."""
    early = {(): 0.3, (3,): 0.6, (5,): 0.5, (1,): 0.45, (0,): 0.4, (0, 3): 0.62}
    late = {(): 0.3, (3,): 0.6, (0, 3): 0.7}
    search, _ = single(lambda steps, k: (1.0, (early if steps == 10 else late).get(k, 0.2)))
    genotype, record = selection.short_trainings(rivals=1, count=count)(search)
    assert skips_of(genotype) == skips
    assert record[-1]["trainings"] == count


def test_what_was_trained_before_is_compared_anew_without_a_training():
    """A convolution on 0->3 is as bad as can be, a skip connection the best in its place."""
    instead = {"none": 0.5, "skip_connect": 0.6, "nor_conv_1x1": 0.5, "avg_pool_3x3": 0.5}

    def reached(mix):
        skips = mix["cell"].argmax(-1) == 1
        others = 0.12 * float(skips[0]) - 0.1 * float(skips[[1, 2, 4, 5]].sum())
        return instead.get(OPTIONS[mix["cell"][3].argmax()], 0.3) + others

    search, _ = search_of(conv_cell(), reached)
    genotype, record = selection.short_trainings(rivals=1, count=26)(search)
    assert skips_of(genotype) == ["0->1", "0->3"]
    assert record[-1]["trainings"] == 26


def test_what_was_never_trained_shortly_is_compared_with_nothing():
    """A stale move is taken when no training is left; another one on its row had the last one."""
    early = {(3, 3): 0.3, (3, 1): 0.6, (4, 3): 0.5, (1, 3): 0.45, (4, 1): 0.55}
    late = {(3, 3): 0.3, (3, 1): 0.6, (4, 1): 0.5, (1, 1): 0.8}

    def train(steps, mixes, weights=0):
        rows = mixes["cell"].argmax(-1)
        kept = (rows[:, [1, 2, 4, 5]] == 3).all(-1)
        found = [(early if steps == 10 else late).get(tuple(r), 0.2) for r in rows[:, [0, 3]]]
        return -np.array(found), np.where(kept, found, 0.2)

    search = conv_cell().trained(train=train, images=IMAGES)
    genotype, record = selection.short_trainings(rivals=1, count=27)(search)
    assert skips_of(genotype) == ["0->1", "0->3"]
    assert record[-1]["trainings"] == 27


def test_what_gains_significantly_is_proposed_without_stale_rivals():
    reached = {(): 0.3, (3,): 0.6, (0,): 0.5, (1,): 0.45, (0, 3): 0.8}
    search, _ = single(lambda steps, skips: (1.0, reached.get(skips, 0.2)))
    record = selection.short_trainings(rivals=2, count=27)(search).record
    assert [[p["row"] for p in line["proposed"]] for line in record[:2]] == [["0->3"], ["0->1"]]


@pytest.mark.parametrize(("sigmas", "first"), [(3.0, "0->1"), (2.0, "0->3")])
def test_only_significant_gains_are_proposed_without_those_that_gain_less(sigmas, first):
    """Early 0->3 gains 2.7 standard errors, and 2.5 more than 0->1, which is better late."""
    early = {(): 0.5, (3,): 0.56, (0,): 0.505}

    def reached(steps, skips):
        late = {(0,): (0.8, 0.7), (3,): (0.9, 0.6)}
        return (1.0, early.get(skips, 0.4)) if steps == 10 else late.get(skips, (1.0, 0.4))

    record = selection.short_trainings(sigmas=sigmas)(single(reached)[0]).record
    assert taken(record)[0]["row"] == first


@pytest.mark.parametrize(("gain", "moves"), [(0.1, 1), (0.08, 0)])
def test_longer_trainings_ask_for_more(gain, moves):
    """Of 1,000 images 0.1 are 4.5 standard errors, and 0.08 are 3.6."""
    search, _ = single(lambda steps, skips: (1.0, 0.5 + gain * float(skips == (3,))))
    for settings, count in (({}, moves), ({"decisive": 5.0}, 0), ({"decisive": 3.0}, 1)):
        genotype = selection.short_trainings(**settings)(search).genotype
        assert skips_of(genotype) == count * ["0->3"]


@pytest.mark.parametrize(("late", "moves"), [(0.6, 1), (0.52, 0)])
def test_longer_trainings_have_the_last_word(late, moves):
    trained = []

    def train(steps, mixes, weights=0):
        trained.extend((steps, mix) for mix in mixes["cell"])
        skips = (mixes["cell"].argmax(-1) == [3, 3, 3, 1, 3, 3]).all(-1)
        values = np.where(skips, 0.51 if steps == 10 else late, 0.5)  # 0.45 standard errors
        return -values, values

    genotype, record = selection.short_trainings(rivals=1)(conv_cell().trained(train=train))
    assert genotype["cell"]["0->3"] == ("skip_connect" if moves else "nor_conv_3x3")
    assert len(taken(record)) == moves
    # The architecture and the one that gained most; and another one where that has led, after all
    # short trainings that are left looked for it in vain.
    counts = {"trainings": 36 if moves else 26, "longer": 2 + moves, "confirmations": 2 * moves}
    assert record[-1] == counts
    assert sum(steps == 40 for steps, _ in trained) == 2 + 3 * moves
    if moves:
        assert record[0]["instead_of"]["accuracy"] == 0.5 and record[0]["accuracy"] == late


def test_what_longer_trainings_contradict_is_not_taken_and_the_next_is_tried():
    """A skip connection on 2->3 learns fastest, one on 0->3 is better in the end."""
    early = {(): 0.3, (5,): 0.6, (3,): 0.4}  # 0->3 is no rival of 2->3: 9 standard errors
    late = {(): 0.5, (5,): 0.55, (3,): 0.6}
    search, trained = single(lambda steps, k: (1.0, (early if steps == 10 else late).get(k, 0.2)))
    genotype, record = selection.short_trainings()(search)
    assert genotype["cell"]["0->3"] == "skip_connect" and genotype["cell"]["2->3"] != "skip_connect"
    lines = [(line["row"], line["taken"]) for line in record[:2]]
    assert lines == [("2->3", False), ("0->3", True)]
    # 0.05 is 2.2 standard errors of 1,000 images; the architecture is trained only once.
    assert [key for steps, key in trained if steps == 40][:3] == [(), (5,), (3,)]


def test_of_moves_that_tie_the_likeliest_row_is_taken_whatever_hashes_say():
    """Run in processes of their own: the order of a set of strings differs between them."""
    script = (
        "import test_racing as t; from dnas import selection;"
        "skips = lambda mix: 0.3 + 0.3 * float((mix['cell'].argmax(1) == 1).any());"
        "select = lambda r: selection.short_trainings(rivals=r);"
        "found = [select(r)(t.search_of(t.conv_cell(), skips)[0]).genotype for r in (1, 3)];"
        "print([[e for e, o in g['cell'].items() if o == 'skip_connect'] for g in found])"
    )
    here = pathlib.Path(__file__).resolve()
    paths = os.pathsep.join(map(str, here.parents[:3]))
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str([[ROWS[0]], [ROWS[0]]])


@pytest.mark.parametrize(("decisive", "moves"), [(4.0, 0), (0.5, 1)])
def test_what_is_significant_depends_on_the_images(decisive, moves):
    def reached(mix):
        return 0.5 + 0.02 * float(mix["cell"][0, 2] > 0)

    search, _ = search_of(conv_cell(), reached, images=1000)  # 0.02 is 0.9 standard errors
    _, record = selection.short_trainings(decisive=decisive)(search)
    assert len(taken(record)) == moves
    search, _ = search_of(conv_cell(), reached, images=100_000)  # and here 8.9
    assert len(taken(selection.short_trainings(decisive=decisive)(search).record)) == 1


def test_trainings_are_limited_and_the_likeliest_options_come_first():
    planted = conv_cell()
    planted.mix["cell"][4] = [0.05, 0.3, 0.02, 0.32, 0.31]
    search, trained = search_of(planted, lambda mix: 0.5)
    _, record = selection.short_trainings(count=3)(search)
    assert record[-1] == {"trainings": 3, "longer": 3, "confirmations": 0} and not taken(record)
    start, likeliest, without = [mix["cell"].argmax(-1).tolist() for _, mix in trained[:3]]
    assert start == [3, 3, 3, 3, 3, 3]
    assert likeliest == [3, 3, 3, 3, 4, 3]  # the rival on the least certain row
    assert without == [1, 1, 1, 1, 4, 1]


def test_starts_where_another_selection_ends():
    planted = conv_cell()
    search, trained = search_of(planted, lambda mix: 0.5)
    start = selection.best_of_samples(5)
    genotype, record = selection.short_trainings(start)(search)
    assert genotype == start(search).genotype
    assert record[:1] == start(search).record and not taken(record)
    np.testing.assert_array_equal(
        trained[0][1]["cell"], one_hot(CELL, genotype, search.mix)["cell"]
    )


WRONG = {"epochs": 0, "sigmas": -1.0, "count": 1, "rivals": 0, "longer": 0.5, "decisive": 0}


@pytest.mark.parametrize(("name", "wrong"), WRONG.items())
def test_bad_settings(name, wrong):
    with pytest.raises(ValueError, match=name):
        selection.short_trainings(**{name: wrong})
