"""Tables: numbers, categories, gaps, splits and errors."""

import dataclasses

import numpy as np
import pytest

from dnas import data as datasets
from dnas.data import Augment, from_csv, load

# Ten rows: which are the test split depends on their number alone.
TEST = np.sort(np.random.default_rng((0, 10)).permutation(10)[:2])
TRAIN = np.setdiff1d(np.arange(10), TEST)
SIZES = [1.0, 2.5, None, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
COLOURS = ["red", "blue", "red", "", "blue", "red", "red", "blue", "red", "NA"]
PRICES = np.arange(10) * 100.0


def write(path, names=("size", "colour", "price"), lines=None, delimiter=","):
    rows = zip(SIZES, COLOURS, PRICES, strict=True)
    lines = [["" if x is None else x for x in row] for row in rows] if lines is None else lines
    text = [delimiter.join(map(str, line)) for line in (names, *lines)]
    path.write_text("\n".join(text) + "\n\n", encoding="utf-8")
    return path


@pytest.fixture
def cars(tmp_path):
    return write(tmp_path / "cars.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_numbers_and_categories_become_columns(tmp_path, delimiter):
    data = from_csv(write(tmp_path / "cars.csv", delimiter=delimiter), "price")
    present = sorted({"(missing)" if c in ("", "NA") else c for c in np.array(COLOURS)[TRAIN]})
    assert data.columns == ("size", *(f"colour={c}" for c in present))
    assert (data.name, data.target, data.indicators) == ("cars", "price", len(present))
    for split, some in ((data.train, TRAIN), (data.test, TEST)):
        rows, targets = split.arrays["row"], split.arrays["target"]
        assert rows.dtype == targets.dtype == np.float32
        np.testing.assert_array_equal(targets, PRICES[some])
        for row, i in zip(rows, some, strict=True):
            if SIZES[i] is not None:
                assert row[0] == SIZES[i]
            word = COLOURS[i] if COLOURS[i] not in ("", "NA") else "(missing)"
            np.testing.assert_array_equal(row[1:], [word == c for c in present])


def test_a_gap_is_the_median_of_the_train_rows(cars):
    data = from_csv(cars, "price")
    split, place = (data.train, TRAIN) if 2 in TRAIN else (data.test, TEST)
    known = [SIZES[i] for i in TRAIN if SIZES[i] is not None]
    assert split.arrays["row"][np.flatnonzero(place == 2)[0], 0] == np.median(known)


def test_a_category_that_only_test_rows_have_is_zeros(tmp_path):
    words = np.where(np.isin(np.arange(10), TEST), "rare", "usual")
    path = write(tmp_path / "a.csv", ("x", "y"), zip(words, PRICES, strict=True))
    data = from_csv(path, "y")
    assert data.columns == ("x=usual",)
    assert data.train.arrays["row"].tolist() == [[1]] * 8
    assert data.test.arrays["row"].tolist() == [[0]] * 2


def test_normalisation_is_that_of_the_train_rows_and_leaves_indicators_alone(cars):
    data = from_csv(cars, "price")
    task, rows = data.task(), data.train.arrays["row"][:, 0]
    assert task.mean[0] == pytest.approx(rows.mean()) and task.std[0] == pytest.approx(rows.std())
    assert set(task.mean[1:]) == {0} and set(task.std[1:]) == {1}
    assert task.target_mean == pytest.approx(PRICES[TRAIN].mean())
    assert task.target_std == pytest.approx(PRICES[TRAIN].std())
    limited = dataclasses.replace(data, train=datasets.limit(data.train, 4, 0))
    assert limited.task().target_mean == pytest.approx(limited.train.arrays["target"].mean())
    assert data.task(measured=False).inputs == task.inputs


def test_columns_can_be_left_out_and_named_on_a_command_line(cars):
    data = load("csv", path=str(cars), target="price", drop=("colour",))
    assert data.columns == ("size",)
    assert "cars, 1 numbers a row, target 'price', 8 train rows, 2 test rows" in repr(data)
    assert data.describe()["columns"] == ["size"]


def test_halves_and_batches_hold_every_row_once(cars):
    data = from_csv(cars, "price")
    found = np.concatenate([half.column("target") for half in data.halves(seed=3)])
    assert sorted(found) == PRICES[TRAIN].tolist()
    batches = list(data.evaluation_batches(data.test, 8))
    assert len(batches) == 1 and float(batches[0][1].sum()) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "prize"}, r"target='prize': expected one of size, .*did you mean 'price'"),
        ({"target": "colour"}, r"target='colour' is 'red' in row 1, and 9 more such rows"),
        ({"target": "size"}, r"target='size' is missing in row 3: expected a number in every"),
        ({"target": "price", "drop": ("color",)}, r"drop='color': expected .*mean 'colour'"),
        ({"target": "price", "drop": "size"}, r"drop='size': expected a list"),
        ({"target": "price", "drop": ("size", "colour")}, "no column is left"),
        ({"target": "price", "test_share": 0}, "test_share=0: expected above 0 and below 1"),
        ({"target": "price", "test_share": 0.99}, "10 rows are too few"),
    ],
)
def test_what_does_not_fit_the_table_is_named(cars, settings, message):
    with pytest.raises(ValueError, match=message):
        from_csv(cars, **settings)


def test_files_that_are_no_tables(tmp_path):
    def refused(message, names=("x", "y"), lines=((1, 2),)):
        path = write(tmp_path / "a.csv", names, lines)
        with pytest.raises(ValueError, match=rf"a\.csv': {message}"):
            from_csv(path, "y")

    refused("two columns are called 'y'", ("y", "y"))
    refused("line 3 has 3 entries; expected 2", lines=((1, 2), (1, 2, 3)))
    refused("expected a first line", ("y",), ((1,),))
    refused("0 rows are too few", lines=())
    refused(r"row 2 of 'x' is 1e39", lines=[(1, 2), ("1e39", 1)] + [(1, 2)] * 9)
    words = [(f"name {i}", i) for i in range(80)]
    refused(r"the column 'x' holds 6\d categories .*drop it by drop=\('x',\)", lines=words)
    (tmp_path / "a.csv").write_bytes(b"x,y\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="is no CSV file of text"):
        from_csv(tmp_path / "a.csv", "y")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        from_csv(tmp_path / "b.csv", "y")


def test_a_table_has_no_augmentation_and_no_pixels(cars):
    data = from_csv(cars, "price")
    with pytest.raises(ValueError, match=r"augment=.*a table has no images"):
        data.task(Augment(flip=True))
    assert data.task(Augment()) == data.task()
    assert datasets.pooled(data, 1) is data
    with pytest.raises(ValueError, match=r"pool=2: expected 1, since .cars. holds no images"):
        datasets.pooled(data, 2)


def test_one_target_for_all_is_nothing_to_learn(tmp_path):
    data = from_csv(write(tmp_path / "a.csv", ("x", "y"), [(i, 3) for i in range(10)]), "y")
    with pytest.raises(ValueError, match="the target 'y' of 'a' is one number"):
        data.check()


def test_california_housing(shared_data):
    """Numbers counted with other tools; 207 rows lack the number of bedrooms."""
    data = from_csv(shared_data / "tabular" / "california_housing.csv", "median_house_value")
    assert (len(data.train), len(data.test)) == (16512, 4128)
    assert len(data.columns) == 8 + 5 and data.indicators == 5
    rows = np.concatenate([data.train.arrays["row"], data.test.arrays["row"]])
    targets = np.concatenate([data.train.arrays["target"], data.test.arrays["target"]])
    assert np.isfinite(rows).all() and targets.sum(dtype=np.float64) == 4269504061
    words = dict(zip(data.columns[8:], rows[:, 8:].sum(0, dtype=np.float64), strict=True))
    assert words["ocean_proximity=ISLAND"] == 5 and words["ocean_proximity=INLAND"] == 6551
    assert sum(words.values()) == 20640
