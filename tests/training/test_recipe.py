"""Recipes: their optimizer against a handwritten one, schedules, and config sections."""

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas.data import Augment
from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.spaces.recurrent import Recurrent
from dnas.training import published, recipe
from dnas.training.recipe import Recipe

STEPS = 8


def reference(recipe, params, gradients):
    """PyTorch's SGD after `clip_grad_norm_`, as its documentation spells it."""
    buffers = [np.zeros_like(p) for p in params]
    for step, grads in enumerate(gradients):
        fraction = 0.5 * (1 + math.cos(math.pi * step / STEPS))
        rate = recipe.final_learning_rate
        rate += fraction * (recipe.learning_rate - recipe.final_learning_rate)
        norm = math.sqrt(sum((g**2).sum() for g in grads))
        scale = min(1.0, recipe.clip_norm / norm) if recipe.clip_norm else 1.0
        for i, grad in enumerate(grads):
            grad = scale * grad + recipe.weight_decay * params[i]
            buffers[i] = recipe.momentum * buffers[i] + grad
            grad = grad + recipe.momentum * buffers[i] if recipe.nesterov else buffers[i]
            params[i] = params[i] - rate * grad
    return params


@pytest.mark.parametrize(
    "settings",
    [
        published.darts_recipe(final_learning_rate=0.001),
        published.nas_bench_201_recipe(),
        Recipe(epochs=1, batch_size=1, learning_rate=0.1, momentum=0.0, weight_decay=0.5),
    ],
    ids=["clip and momentum", "nesterov", "plain"],
)
def test_optimizer_is_pytorchs_sgd(settings):
    rng = np.random.default_rng(1)
    params = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    # Norms from about 1 to 30: clipping at 5 takes hold of some of them.
    gradients = [[scale * rng.normal(size=p.shape) for p in params] for scale in range(1, 7)]
    expected = reference(settings, [p.copy() for p in params], gradients)
    optimizer = recipe.optimizer(settings, STEPS)
    got = [jnp.asarray(p, jnp.float32) for p in params]
    state = optimizer.init(got)
    for grads in gradients:
        grads = [jnp.asarray(g, jnp.float32) for g in grads]
        updates, state = optimizer.update(grads, state, got)
        got = optax.apply_updates(got, updates)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)


def test_networks_have_the_sizes_that_the_section_gives():
    settings = published.PUBLISHED["recurrent"]
    assert settings.recipe == Recipe(
        epochs=8000,
        batch_size=64,
        learning_rate=20.0,
        final_learning_rate=20.0,
        momentum=0.0,
        weight_decay=8e-7,
        clip_norm=0.25,
        averaging=5,
    )
    assert settings.sized(Recurrent(channels=300, nodes=4)) == Recurrent(channels=850, nodes=4)
    assert settings._replace(channels=None).sized(Recurrent()) == Recurrent()
    assert published.PUBLISHED["darts"].sized(DARTS()) == DARTS(channels=36, cells=20)
    with pytest.raises(ValueError, match=r"train\.cells=20: expected None, since networks of the"):
        published.PUBLISHED["darts"].sized(Recurrent())
    assert recipe.from_section(recipe.section(settings)) == settings


def test_published_numbers():
    darts, nb201 = published.PUBLISHED["darts"], published.PUBLISHED["nas_bench_201"]
    assert (darts.channels, darts.cells, nb201.channels, nb201.cells) == (36, 20, 16, 5)
    assert darts.recipe.augment == Augment(4, True, 16)
    assert nb201.recipe.augment == Augment(4, True, 0)
    assert dataclasses.replace(darts.recipe, augment=Augment()) == Recipe(
        epochs=600,
        batch_size=96,
        learning_rate=0.025,
        weight_decay=3e-4,
        clip_norm=5.0,
        auxiliary_weight=0.4,
        drop_path=0.2,
    )
    assert dataclasses.replace(nb201.recipe, augment=Augment()) == Recipe(
        epochs=200, batch_size=256, learning_rate=0.1, nesterov=True, weight_decay=5e-4
    )


def test_drop_path_grows_linearly_with_a_traced_step():
    at = jax.jit(lambda step: recipe.drop_path(published.darts_recipe(), step, 10))
    np.testing.assert_allclose([at(step) for step in (0, 5, 9)], [0, 0.1, 0.18], rtol=1e-6)
    assert at._cache_size() == 1


def test_section_and_back():
    values = published.published("darts", epochs=3, seeds=[4, 5], learning_rate=1)
    settings = recipe.from_section(values)
    assert settings.recipe == published.darts_recipe(epochs=3, learning_rate=1)
    assert (settings.channels, settings.cells, settings.seeds) == (36, 20, (4, 5))
    assert recipe.section(settings) == values


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": -3},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": float("inf")},
        {"epochs": 10**20},
        {"seeds": (2**32,)},
        {"final_learning_rate": 0.5},
        {"momentum": 1.0},
        {"nesterov": 1},
        {"drop_path": 1.0},
        {"dtype": "float16"},
        {"channels": 0},
        {"cells": "5"},
        {"seeds": (1, 1)},
        {"seeds": ()},
        {"seeds": (-1,)},
        {"seeds": 3},
        {"epoch": 3},
    ],
    ids=str,
)
def test_errors_name_the_key_and_the_value(change):
    (key, value), *_ = change.items()
    with pytest.raises(ValueError, match=rf"^train\.{key}(=| must)") as error:
        published.published("nas_bench_201", **change)
    assert key in ("epoch", "seeds") or repr(value) in str(error.value)


def test_changes_of_examples_are_a_section_of_their_own():
    values = published.published("nas_bench_201", augment={"cutout": 8})
    assert values["augment"] == {"crop_padding": 4, "flip": True, "cutout": 8}
    assert recipe.from_section(values).recipe.augment == Augment(4, True, 8)
    for wrong, message in (
        ({"cutout": -1}, r"^train\.augment\.cutout=-1: expected"),
        ({"cutuot": 1}, r"^train\.augment: 'cutuot' is no setting .*did you mean 'cutout'"),
        (4, r"^train\.augment=4: expected a section with crop_padding, flip, cutout"),
    ):
        with pytest.raises(ValueError, match=message):
            published.published("nas_bench_201", augment=wrong)
    for wrong, message in (
        ({"augment": {"flip": True}}, r"^train\.augment\.crop_padding must be there"),
        ({"augment": None}, r"^train\.augment=None: expected a section"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.from_section(values | wrong)
    with pytest.raises(ValueError, match="'flip' is no setting of a recipe"):
        recipe.rebuild({"epochs": 1, "flip": True})
    with pytest.raises(ValueError, match=r"augment=\(4, True\): expected a dnas\.data\.Augment"):
        Recipe(epochs=1, batch_size=1, learning_rate=0.1, augment=(4, True))


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="nesterov=True"):
        published.nas_bench_201_recipe(momentum=0.0)


def test_missing_key_and_unknown_space():
    values = published.published("darts")
    del values["clip_norm"]
    with pytest.raises(ValueError, match=r"train\.clip_norm must be there"):
        recipe.from_section(values)
    with pytest.raises(ValueError, match="'nowhere'"):
        published.published("nowhere")


def test_the_recipe_for_cifar_on_the_stem_for_imagenet_is_warned_of():
    space = DARTS(stem="imagenet")
    changed = published.darts_recipe(epochs=250, learning_rate=0.1)
    with pytest.warns(UserWarning) as caught:
        published.warn_of_stem(space, changed)
    (message,) = (str(warning.message) for warning in caught)
    assert "batch_size=96 (128), weight_decay=0.0003 (3e-05), drop_path=0.2 (0.0)" in message
    assert "augment.crop_padding=4 (0), augment.cutout=16 (0)" in message
    assert "epochs" not in message and "learning_rate" not in message
    own = published.darts_recipe(
        epochs=9, batch_size=8, learning_rate=0.2, weight_decay=0.0, drop_path=0.1
    )
    own = dataclasses.replace(own, augment=Augment(crop_padding=2, cutout=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published.warn_of_stem(space, own)
        published.warn_of_stem(DARTS(), published.darts_recipe())
        published.warn_of_stem(NASBench201(), published.darts_recipe())
