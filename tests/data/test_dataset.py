"""Splits: subsets, halves, laziness, and the statistics of a set."""

import dataclasses

import numpy as np
import pytest

from dnas.data import LabelledImages, Split, check_classes, digits, from_arrays, halve, limit
from dnas.data.dataset import ArraySource
from dnas.data.images import statistics


class CountingSource(ArraySource):
    """Remembers which images were decoded."""

    def __init__(self, images, labels):
        super().__init__({"image": images, "label": labels})
        self.__dict__["decoded"] = []  # The dataclass is frozen.

    def read(self, indices):
        self.decoded.extend(np.asarray(indices).tolist())
        return {name: array[indices] for name, array in self.arrays.items()}

    load = read


def counting(n, shape=(2, 3, 1), seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return CountingSource(images, np.arange(n, dtype=np.int32))


def test_limit_is_a_seeded_subset():
    split = Split.all(counting(100))
    few, again, other = limit(split, 30, 0), limit(split, 30, 0), limit(split, 30, 1)
    assert len(few) == 30
    np.testing.assert_array_equal(few.labels, again.labels)
    assert set(few.labels.tolist()) != set(other.labels.tolist())
    assert len(set(few.labels.tolist())) == 30
    np.testing.assert_array_equal(few.images, split.source.arrays["image"][few.labels])
    # All of them, in order, is no limit.
    np.testing.assert_array_equal(limit(split, 100, 0).labels, split.labels)


@pytest.mark.parametrize("n", [0, 1, 101])
def test_limit_refuses_by_number(n):
    with pytest.raises(ValueError, match=f"{n} images.*100"):
        limit(Split.all(counting(100)), n, 0)


@pytest.mark.parametrize("n", [2.5, True, "3"])
def test_limit_refuses_what_is_no_whole_number(n):
    with pytest.raises(ValueError, match="expected a whole number"):
        limit(Split.all(counting(100)), n, 0)


@pytest.mark.parametrize("n", [100, 7, 2])
def test_halves_are_disjoint_and_complete(n):
    split = Split.all(counting(n))
    weights, architecture = halve(split, 3)
    assert (len(weights), len(architecture)) == (n // 2, n - n // 2)
    assert sorted([*weights.labels, *architecture.labels]) == list(range(n))
    np.testing.assert_array_equal(weights.images, split.images[weights.labels])


def test_halves_are_shuffled_by_the_seed_alone():
    split = Split.all(counting(100))
    first = [halve(split, seed)[0].labels.tolist() for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
    assert sum(label < 50 for label in first[0]) < 40
    with pytest.raises(ValueError, match="at least 2"):
        halve(Split(split.source, np.arange(1)), 0)


def test_a_limited_half_comes_from_that_half():
    weights, _ = halve(Split.all(counting(40)), 0)
    few = limit(weights, 5, 0)
    assert set(few.labels.tolist()) < set(weights.labels.tolist())
    np.testing.assert_array_equal(few.images, few.source.arrays["image"][few.labels])


def test_only_what_is_needed_is_decoded_and_only_once():
    source, test_source = counting(100), counting(10)
    data = LabelledImages("counted", Split.all(source), Split.all(test_source), 100)
    data = dataclasses.replace(data, train=limit(data.train, 20, seed=0))
    halves = halve(data.train, seed=0)
    assert not source.decoded
    assert data.mean and data.std
    for half in halves:
        assert half.images.shape == (10, 2, 3, 1)
    assert sorted(source.decoded) == sorted(data.train.indices.tolist())
    assert not test_source.decoded


def test_statistics_match_numpy():
    source = counting(1500, (3, 5, 2))
    data = LabelledImages("x", Split.all(source), Split.all(counting(2, (3, 5, 2))), 1500)
    scaled = source.arrays["image"] / 255
    np.testing.assert_allclose(data.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, scaled.std((0, 1, 2)), rtol=1e-12)


def test_statistics_of_a_limited_set_are_its_own():
    data = digits()
    few = dataclasses.replace(data, train=limit(data.train, 10, 0))
    np.testing.assert_allclose(few.mean, [few.train.images.mean() / 255], rtol=1e-12)
    assert few.mean != data.mean


def test_statistics_of_large_sets_look_at_a_part():
    source = counting(1000, (2, 2, 1))
    mean, _ = statistics(Split.all(source), count=101, budget=4 * 1000 - 1)
    assert len(source.decoded) == 101
    assert (min(source.decoded), max(source.decoded)) == (0, 999)
    assert np.ptp(np.diff(source.decoded)) <= 1
    np.testing.assert_allclose(mean, [source.arrays["image"][source.decoded].mean() / 255])
    capped = counting(1000, (2, 2, 1))
    statistics(Split.all(capped), budget=40)
    assert len(capped.decoded) == 10


def test_a_constant_channel_can_be_divided_by():
    images = np.zeros((3, 4, 4, 2), np.uint8)
    images[..., 0] = 77
    data = from_arrays(images, [0, 1, 1], images, [0, 1, 0])
    assert data.std == (1.0, 1.0)
    np.testing.assert_allclose(data.mean, (77 / 255, 0))


def test_shapes_of_train_and_test_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 4, 1\).*\(5, 4, 1\)"):
        LabelledImages(
            "odd", Split.all(counting(4, (4, 4, 1))), Split.all(counting(4, (5, 4, 1))), 4
        )


def test_the_prompt_shows_one_line():
    data = digits()
    assert repr(data) == (
        "LabelledImages(digits, 8x8x1 pixels, 10 classes (0, 1, 2, 3, 4, ...), 1,437 train images, "
        "360 test images)"
    )
    assert repr(data.train) == "Split(1,437 examples: image 8x8x1, label scalar)"
    assert repr(data.train.source) == "ArraySource(1,437 examples: image 8x8x1, label scalar)"
    nameless = dataclasses.replace(data, class_names=None)
    assert "10 classes, 1,437" in repr(nameless)


def test_a_class_without_train_images_is_refused_and_after_a_limit_warned_of():
    """Labels 0..11 with 5 left out: nobody's limit but the source itself lacks it."""
    source = counting(12)
    source.arrays["label"][5] = 4
    names = tuple("abcdefghijkl")
    data = LabelledImages("letters", Split.all(source), Split.all(counting(3)), 12, names)
    with pytest.raises(ValueError, match=r"'letters' has no train images of the classes 5 \(f\): "):
        check_classes(data)
    whole = dataclasses.replace(data, train=Split.all(counting(12)))
    check_classes(whole)
    limited = dataclasses.replace(whole, train=limit(whole.train, 10, seed=0))
    gone = sorted(set(range(12)) - set(limited.train.labels.tolist()))
    named = ", ".join(f"{label} \\({names[label]}\\)" for label in gone)
    with pytest.warns(UserWarning, match=f"limit to 10 train images .* classes {named} of 'let"):
        check_classes(limited)
