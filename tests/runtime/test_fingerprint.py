"""What distinguishes functions, in every process alike."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import data, presets, selection
from dnas.data.dataset import ArraySource
from dnas.gradient import relax
from dnas.parts import part
from dnas.runtime.fingerprint import attributes, of_data, plain
from dnas.runtime.settings import flatten

SOURCE = """
def function(x, *, known={"relu", "tanh", "sin"}):
    return (lambda y: y in {"one", "two", "three", "four"})(x)
"""


def test_functions_differ_by_code_constants_names_defaults_and_closure():
    def closing(rate):
        return lambda x: x * rate

    functions = [
        *(lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x: abs(x), lambda x: len(x)),
        *(lambda x, y=1: x, lambda x, y=2: x, lambda x, *, y=2: x),
        *(lambda x: lambda y: y + 1, lambda x: lambda y: y + 2),
        *(closing(0.1), closing(0.2)),
        *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, default=2)),
    ]
    texts = [json.dumps(plain(function)) for function in functions]
    assert len(set(texts)) == len(texts)
    assert plain(closing(0.1)) == plain(closing(0.1))
    arrays = [np.arange(3), np.arange(1, 4), jnp.arange(3.0), np.zeros((1, 3)), np.zeros((3, 1))]
    assert len({json.dumps(plain(closing(array))) for array in arrays}) == len(arrays)
    assert plain(jax.random.key(0)) == plain(jax.random.key(1))  # keys are no settings
    assert plain({"deep": [[[[[0.5]]]]]}) != plain({"deep": [[[[[0.25]]]]]})


def test_numbers_in_code_are_told_apart_by_themselves():
    def first(steps):
        """Not 7."""
        return (lambda step: 50.0 * step)(steps) - 3

    assert plain(first)["code"]["numbers"] == [50.0, 3]
    assert plain(lambda steps: (True, "7", None))["code"]["numbers"] == []


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_described_without_code(name):
    """So that neither a version of Python nor an edited function makes another run."""
    text = json.dumps(plain(presets.PRESETS[name]()))
    assert "code" not in text and "lambda" not in text and "locals" not in text


def test_parts_differ_by_their_settings_however_deep_and_by_the_code_of_ones_own():
    def nested(limit, levels=5):
        inner = part(selection.limited_skips, limit=limit)
        for _ in range(levels):
            inner = part(selection.largest_of_close, start=inner)
        return plain(presets.darts(selection=inner))

    assert nested(1) == nested(1) != nested(2)
    assert plain(part(relax.softmax)) == {"name": "softmax"}
    assert plain(relax.softmax) == {"function": "softmax"}

    def mine(rate=1.0):
        return lambda x: rate * x + 3

    known = plain(part(mine, rate=2.0))
    assert known["name"] == "mine" and known["rate"] == 2.0
    assert known["factory"]["code"]["numbers"] == [3]


def test_a_digest_is_the_same_in_every_process():
    code = (
        f"{SOURCE}\nimport numpy as np\nfrom dnas import data\n"
        "from dnas.runtime.fingerprint import attributes, of_data, plain\n"
        "images, labels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.arange(4)\n"
        "print(plain(function), of_data(data.from_arrays(images, labels, images, labels)))"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2100, 2, 3, 1), np.uint8)  # some blocks
    return images, np.arange(2100) % 3


def fingerprint_of(images, labels, test_images, test_labels):
    return of_data(data.from_arrays(images, labels, test_images, test_labels))


def test_every_pixel_and_label_of_both_splits_counts(arrays):
    images, labels = arrays
    known = fingerprint_of(*arrays, *arrays)
    assert known["test"]["covers"] == "all numbers of the arrays"
    assert fingerprint_of(*map(np.copy, arrays), *arrays) == known
    for i in (0, 1023, 1024, 2099):
        brighter, relabelled = images.copy(), labels.copy()
        brighter[i, -1, -1] += 1
        relabelled[i] = (labels[i] + 1) % 3
        for changed in ((brighter, labels), (images, relabelled)):
            assert differing(known, fingerprint_of(*changed, *arrays)) == {"train.content"}
            assert differing(known, fingerprint_of(*arrays, *changed)) == {"test.content"}
    fewer = fingerprint_of(*arrays, images[:-1], labels[:-1])
    assert differing(known, fewer) == {"test.examples", "test.content"}
    swapped = fingerprint_of(*arrays, images[::-1], labels[::-1])
    assert differing(known, swapped) == {"test.content"}


def test_arrays_that_change_are_other_data(arrays):
    images, labels = arrays[0].copy(), arrays[1]
    digits = data.from_arrays(*arrays, images, labels)
    before = of_data(digits)
    images[0] = 255 - images[0]
    assert differing(before, of_data(digits)) == {"test.content"}


def differing(one, other):
    one, other = flatten(one), flatten(other)
    return {name for name in one if one[name] != other[name]}


def test_parts_of_a_split_are_known_by_what_they_hold(arrays):
    images, labels = arrays
    split = data.from_arrays(*arrays, *arrays).train
    few, half = data.limit(split, 30, 0), data.halve(split, 0)[1]
    for some in (few, half):
        alone = ArraySource(
            {"image": images[some.indices], "label": labels[some.indices].astype(np.int32)}
        )
        assert some.content == data.Split.all(alone).content
    parts = [split, few, data.limit(split, 30, 1), half, *data.halve(split, 1)]
    assert len({split.content for split in parts}) == len(parts)


def test_smaller_images_are_other_data():
    digits = data.digits()
    whole, small, smaller = (of_data(data.pooled(digits, pool)) for pool in (1, 2, 4))
    expected = {"image_shape", "train.content", "test.content"}
    assert differing(whole, small) == differing(small, smaller) == expected


def test_numbers_of_numpy_are_told_apart_like_those_of_python():
    assert plain({"a": np.float32(0.5), "b": np.int64(2)}) == {"a": 0.5, "b": 2}


def test_attributes_of_what_is_no_dataclass():
    class Own:
        def __init__(self):
            self.rate, self.made = 0.5, lambda: 2

    assert attributes(Own())["rate"] == 0.5
    assert attributes(Own())["made"]["code"]["numbers"] == [2]
