"""Mistakes in Python: what a user may write, and the line that says what to write instead."""

import dataclasses
import os

import numpy as np
import pytest

import dnas
from dnas import checks, data, presets, spaces
from dnas.gradient import freeze, hypergrad, perturb, regularize, relax, stopping
from dnas.jobs import recipe
from dnas.space import Decision

DATA = data.digits()
SPACE = spaces.NASBench201(channels=2, cells=1, stages=1)
GENOTYPE = SPACE.sample(np.random.default_rng(0))
ARRAYS = (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int)) * 2


@dataclasses.dataclass
class Own:
    """A space that can be searched, but for what it lacks."""

    name = "own"
    decisions = {"layers": Decision(("first",), ("a", "b"))}  # noqa: RUF012

    def discretize(self, mix):
        return mix


def search(space=SPACE, data=DATA, preset=None, **options):
    return dnas.search(space, data, preset or presets.darts(), progress=False, **options)


def changed(**changes):
    return search(preset=presets.darts(**changes))


def train(space=SPACE, genotype=GENOTYPE, data=DATA, recipe=recipe.darts_recipe()):  # noqa: B008
    return dnas.train(space, genotype, data, recipe, progress=False)


MISTAKES = {
    "a class": (lambda: search(spaces.NASBench201), r"make a space of it: NASBench201\(\.\.\.\)"),
    "a space's name": (lambda: search("darts"), r"such as dnas\.spaces\.NASBench201\(\)"),
    "arguments in turn": (lambda: dnas.search(DATA, SPACE, presets.darts()), "space=Dataset"),
    "a space that can change": (lambda: search(Own()), "frozen dataclass"),
    "a preset's name": (lambda: search(preset="darts"), r"write dnas\.presets\.darts\(\)"),
    "nearly a name": (lambda: search(preset="darrts"), r"did you mean 'darts'\?"),
    "no call": (lambda: search(preset=presets.oles), r"call it: dnas\.presets\.oles\(\)"),
    "a number": (lambda: search(preset=3), r"preset=3: expected a preset, such as"),
    "arrays": (lambda: search(data=ARRAYS), r"got 'tuple'; arrays become one by .*from_arrays"),
    "a path": (lambda: search(table="a.csv"), r"write dnas\.benchmarks\.NASBench201\(path\)"),
    "augmentation": (lambda: search(augment=(4, True, 0)), r"such as dnas\.data\.Augment\("),
    "a seed that wraps": (lambda: search(seed=2**32), r"seed=4294967296: expected at most"),
    "too many steps": (lambda: checks.steps(10**6, 5000), "epochs=1000000: .* at most 429,496, "),
    "lr": (lambda: presets.dnas(lr=1), r"'lr' .* \(did you mean 'learning_rate'\?\)"),
    "lr of a recipe": (lambda: recipe.darts_recipe(lr=1), r"did you mean 'learning_rate'\?"),
    "a relaxation": (
        lambda: changed(relaxation=relax.sparsemax()),
        r"lambda steps: .*\.relax",
    ),
    "no lambda": (
        lambda: changed(relaxation=relax.sparsemax),
        r"lambda steps: .*\.relax",
    ),
    # Called with the number of steps, it would take them for the temperature.
    "temperature": (
        lambda: changed(relaxation=relax.gumbel_softmax),
        r"lambda steps: .*\.relax",
    ),
    "radius": (
        lambda: changed(perturbation=perturb.random_smoothing),
        r"lambda steps: .*\.per",
    ),
    "no argument": (lambda: changed(relaxation=lambda: None), "takes 0 positional arguments"),
    "nothing made": (lambda: changed(relaxation=lambda steps: None), "which made None"),
    "a maker": (
        lambda: changed(hypergradient=hypergrad.joint),
        r"dnas\.gradient\.hypergrad\.first_order\(\)",
    ),
    "no sequence": (
        lambda: changed(regularizers=lambda steps, space: regularize.l2(1.0)),
        r"lambda steps, space: \(dnas\.gradient\.regularize",
    ),
    "no function": (lambda: changed(regularizers=(regularize.l2(1.0),)), "lambda steps, space"),
    "a rule": (
        lambda: changed(stopping=stopping.skip_count(("skip_connect",))),
        r"lambda space: .*\.stopping",
    ),
    "unmade": (lambda: changed(freeze=freeze.oles), r"such as dnas\.gradient\.freeze\.oles\(\)"),
    "betas": (lambda: changed(alpha_betas=("a", 0.9)), r"alpha_betas=\('a', 0\.9\): expected"),
    "a directory": (lambda: search(workdir=3), r"workdir=3: expected the path of a directory"),
    "a run": (lambda: dnas.open(3), r"workdir=3: expected the path of a directory"),
    "nothing to train": (lambda: train(Own()), "Own lacks 'validate', 'network'"),
    "text": (lambda: train(genotype="|none~0|"), r"space\.parse\(text\)"),
    "a recipe's maker": (lambda: train(recipe=recipe.darts_recipe), r"such as .*darts_recipe\("),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_in_a_line(mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("make", [spaces.NASBench201, spaces.DARTS])
def test_weights_beyond_the_memory_are_refused_before_anything_is_built(make, monkeypatch):
    space = make(channels=64, cells=3)
    page = {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**12}  # 16 MiB
    monkeypatch.setattr(os, "sysconf", page.get)
    with pytest.raises(ValueError, match=r"e\+0\d weights, which .* GiB of memory: take fewer"):
        search(space)
    for field, value in {"channels": 10**6, "cells": 10**20, "nodes": 17}.items():
        with pytest.raises(ValueError, match=rf"{field}={value}: expected at most .* memory"):
            make(**{field: value})


def test_what_the_package_shows_is_what_users_need():
    assert {"search", "train", "viz", "benchmarks", "costs", "data", "spaces"} <= set(dir(dnas))
    assert not {"importlib", "Any", "checks", "jobs"} & set(dir(dnas))
    assert all(getattr(dnas, name) is not None for name in dir(dnas))
    assert "open" in dir(dnas) and "open" not in dnas.__all__  # `import *` keeps Python's
