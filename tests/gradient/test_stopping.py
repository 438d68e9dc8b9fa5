"""Early stopping against sequences computed by hand."""

import pytest

from dnas.genotype import Genotype
from dnas.gradient.stopping import Record, eigenvalue_ratio, skip_count

SKIPS = ("skip_connect",)
EDGES = ("0->2", "1->2", "0->3", "1->3")


def record(skips, part="normal", other=0, eigenvalue=None):
    def cell(count):
        return {e: "skip_connect" if i < count else "conv" for i, e in enumerate(EDGES)}

    choices = {part: cell(skips), "another": cell(other)}
    return Record(Genotype.create("space", choices), eigenvalue)


def ask(stopping, records):
    """What the rule says after each epoch."""
    return [stopping.rule(records[: i + 1]) for i in range(len(records))]


def test_skip_connections_of_the_normal_cell():
    records = [record(0, other=4), record(1, other=4), record(3), record(1)]
    assert ask(skip_count(SKIPS), records) == [None, None, 3, None]
    assert ask(skip_count(SKIPS, limit=1), records) == [None, 2, 3, 4]
    assert ask(skip_count(SKIPS, limit=4), records) == [None] * 4
    assert not skip_count(SKIPS).eigenvalue
    assert ask(skip_count(("conv", "none")), records) == [1, 2, None, 4]
    with pytest.raises(ValueError, match=r"skips=\(\): expected the names of the skip connections"):
        skip_count(())


def test_skip_connections_of_another_part():
    records = [record(1, part="cell"), record(2, part="cell")]
    assert ask(skip_count(SKIPS, part="cell"), records) == [None, 2]
    with pytest.raises(ValueError, match=r"part='normal': expected one of \['another', 'cell'\]"):
        skip_count(SKIPS).rule(records)


def of(values):
    return [record(0, eigenvalue=value) for value in values]


def test_ratio_of_averaged_eigenvalues():
    stopping = eigenvalue_ratio(ratio=0.75, lag=2, window=3)
    # Averages over three epochs: 3, 3, 3, 3, 4, 6, 6.
    records = of([3.0, 3.0, 3.0, 3.0, 6.0, 9.0, 3.0])
    # Epoch 5: 3/4 is not below 0.75; epoch 6: 3/6 is; epoch 7: 4/6 is.
    assert ask(stopping, records) == [None, None, None, None, None, 4, 5]
    assert stopping.eigenvalue


def test_published_lag_and_window():
    # Averages: 1 until epoch 10; then 1.2 and 1.4 at epochs 11 and 12; five epochs before: 1.
    records = of([1.0] * 10 + [2.0] * 2)
    assert ask(eigenvalue_ratio(), records) == [None] * 11 + [7]


def test_first_epochs_stop_nothing():
    records = of([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
    assert ask(eigenvalue_ratio(), records) == [None] * 9 + [5]


def test_falling_or_downward_curvature_never_stops():
    assert ask(eigenvalue_ratio(), of([float(i - 30) for i in range(20)])) == [None] * 20
    assert ask(eigenvalue_ratio(), of([float(20 - i) for i in range(20)])) == [None] * 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: skip_count(SKIPS, 0), "limit=0"),
        (lambda: eigenvalue_ratio(ratio=0.0), "ratio=0.0"),
        (lambda: eigenvalue_ratio(lag=0), "lag=0"),
        (lambda: eigenvalue_ratio(window=0), "window=0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
