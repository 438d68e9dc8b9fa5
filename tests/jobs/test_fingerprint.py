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

from dnas import data
from dnas.jobs.fingerprint import of_data, plain

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


def test_a_digest_is_the_same_in_every_process():
    code = f"{SOURCE}\nfrom dnas.jobs.fingerprint import plain\nprint(plain(function))"
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


def test_smaller_images_are_other_data():
    digits = data.digits()
    whole, small = of_data(digits), of_data(data.pooled(digits, 2))
    assert {key for key in whole if whole[key] != small[key]} == {"image_shape"}


def test_numbers_of_numpy_are_told_apart_like_those_of_python():
    assert plain({"a": np.float32(0.5), "b": np.int64(2)}) == {"a": 0.5, "b": 2}
