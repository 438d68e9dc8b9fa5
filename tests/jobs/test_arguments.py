"""Mistakes in Python: what a user may write, and the line that says what to write instead."""

import dataclasses
import os

import numpy as np
import pytest
from toys import Rows

import dnas
from dnas import checks, data, presets, spaces
from dnas.gradient import freeze, hypergrad, perturb, regularize, relax
from dnas.space import Decision
from dnas.training import published

DATA = data.digits()
SPACE = spaces.NASBench201(channels=2, cells=1, stages=1)
GENOTYPE = SPACE.sample(np.random.default_rng(0))
ARRAYS = (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int)) * 2


@dataclasses.dataclass
class Own(Rows):
    """A space that cannot be hashed."""

    name = "own"
    decisions = {"layers": Decision("layers", ("first",), ("a", "b"))}  # noqa: RUF012


class Bare:
    name, decisions = "bare", Own.decisions
    discretize = sample = None


def search(space=SPACE, data=DATA, preset=None, **options):
    return dnas.search(space, data, preset or presets.darts(), progress=False, **options)


def changed(**changes):
    return search(preset=presets.darts(**changes))


def train(space=SPACE, genotype=GENOTYPE, data=DATA, recipe=published.darts_recipe()):  # noqa: B008
    return dnas.train(space, genotype, data, recipe, progress=False)


MISTAKES = {
    "a class": (lambda: search(spaces.NASBench201), r"make a space of it: NASBench201\(\.\.\.\)"),
    "a space's name": (lambda: search("darts"), r"such as dnas\.spaces\.NASBench201\(\)"),
    "arguments in turn": (
        lambda: dnas.search(DATA, SPACE, presets.darts()),
        "space=LabelledImages",
    ),
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
    "lr of a recipe": (lambda: published.darts_recipe(lr=1), r"did you mean 'learning_rate'\?"),
    "not called": (
        lambda: changed(relaxation=relax.sparsemax),
        r"relaxation=dnas\.gradient\.relax\.sparsemax\(\)",
    ),
    "a function of steps": (
        lambda: changed(relaxation=lambda steps: relax.sparsemax()),
        r"relaxation=dnas\.gradient\.relax\.sparsemax\(\), or dnas\.presets\.part\(FACTORY",
    ),
    "radius": (
        lambda: changed(perturbation=perturb.random_smoothing),
        r"random_smoothing\(0\.03\)",
    ),
    "nothing made": (
        lambda: changed(relaxation=presets.part(lambda: None)),
        r"^relaxation: expected a part, .*; got None",
    ),
    "of another kind": (
        lambda: changed(hypergradient=presets.part(relax.softmax)),
        r"^hypergradient: expected a part",
    ),
    "a maker": (lambda: changed(hypergradient=hypergrad.joint), r"hypergrad\.first_order\(\)"),
    "no sequence": (lambda: changed(regularizers=regularize.l2(1.0)), "expected a tuple, as"),
    "old makers": (
        lambda: changed(regularizers=(lambda steps: None,)),
        r"regularize\.l2\(1\.0\),\)",
    ),
    "a rule": (lambda: changed(stopping=lambda space: None), r"stopping\.eigenvalue_ratio\(\)"),
    "unmade": (lambda: changed(freeze=freeze.oles), r"freeze=dnas\.gradient\.freeze\.oles\(\)"),
    "no setting": (
        lambda: presets.part(relax.gumbel_softmax, temprature=1.0),
        r"'temprature' is no setting of gumbel_softmax \(did you mean 'temperature'\?\)",
    ),
    "a value out of range": (
        lambda: changed(relaxation=presets.part(relax.gumbel_softmax, temperature=-1.0)),
        r"^relaxation\.temperature=-1\.0: expected a number above 0",
    ),
    "one end of a schedule": (
        lambda: changed(
            relaxation=presets.part(relax.reinmax, temperature=presets.linear(1.0, 0.0))
        ),
        r"^relaxation\.temperature=0\.0: expected a number above 0",
    ),
    "a missing setting": (lambda: presets.part(regularize.l2), "weight is missing: l2 needs it"),
    "arrays as settings": (
        lambda: presets.part(regularize.l2, weight=np.ones(2)),
        r"weight=array.*: expected plain data",
    ),
    "betas": (lambda: changed(alpha_betas=("a", 0.9)), r"alpha_betas=\('a', 0\.9\): expected"),
    "a directory": (lambda: search(workdir=3), r"workdir=3: expected the path of a directory"),
    "a run": (lambda: dnas.open(3), r"workdir=3: expected the path of a directory"),
    "nothing to train": (lambda: train(Bare()), "Bare lacks 'supernet', 'network', 'val"),
    "text": (lambda: train(genotype="|none~0|"), r"space\.parse\(text\)"),
    "a recipe's maker": (lambda: train(recipe=published.darts_recipe), r"such as .*darts_recipe\("),
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
