"""Watching a search: what is frozen."""

import types
import warnings

import jax.numpy as jnp
import pytest

from dnas import presets, spaces
from dnas.gradient.freeze import Frozen
from dnas.jobs.watch import Watch


def make(frozen):
    method = types.SimpleNamespace(frozen=frozen)
    return Watch(presets.darts(), spaces.NASBench201(), None, method, None)


def test_a_decision_that_freezes_everything_warns_once():
    watch = make(lambda state: Frozen(*map(jnp.float32, state)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watch.measure(1, (0.5, 0.25)) == {"frozen": 0.5}
    with pytest.warns(UserWarning, match="a single decision froze 100% of the operations"):
        assert watch.measure(2, (1.0, 1.0)) == {"frozen": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watch.measure(3, (1.0, 1.0)) == {"frozen": 1.0}


def test_searches_that_freeze_nothing_measure_nothing():
    assert make(None).measure(1, ()) == {}
