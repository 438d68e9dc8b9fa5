"""Recipes: the settings with which a genotype's network is trained from scratch.

A `Recipe` is plain data. `darts_recipe`, `nas_bench_201_recipe` and `recurrent_recipe` are the
published ones, and their keyword arguments change single settings: ``darts_recipe(epochs=20)``.
`section` and `from_section` turn a recipe, the network's size and the seeds into the flat section
`train` of a config and back.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax

from dnas import arithmetic, checks
from dnas.data import Augment
from dnas.gradient import optimizers
from dnas.space import SearchSpace
from dnas.spaces.darts import DARTS

# Where DARTS' recipe for ImageNet differs from that for CIFAR-10, as far as there are settings.
_IMAGENET = {
    "epochs": 250,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 3e-5,
    "drop_path": 0.0,
    "crop_padding": 0,
    "cutout": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained from scratch.

    Attributes:
      epochs: passes over the training split.
      batch_size: examples a step, over all devices.
      learning_rate: at the first step.
      final_learning_rate: where the cosine ends.
      momentum: of the stochastic gradient descent, as PyTorch counts it (no dampening).
      nesterov: whether the momentum is Nesterov's.
      weight_decay: factor of the L2 term in the gradient of every parameter, scales and biases
        of batch normalisation included, as in the published code.
      clip_norm: largest global norm of a gradient, before weight decay; 0 does not clip.
      averaging: weights are averaged from the end of the first epoch on whose validation loss is
        above the least of all but the last so many before; the network that is tested has the
        average. That is the ASGD of Merity et al. (2018), who take 5; 0 averages nothing. It needs
        data with a validation split.
      auxiliary_weight: weight of the auxiliary head's loss; 0 builds no such head.
      drop_path: probability that a path is dropped at the end; it grows linearly from 0.
      crop_padding: black pixels around an image before it is cropped at random; 0 does not crop.
      flip: whether images are mirrored at random.
      cutout: side of the square that is erased from each image; 0 erases nothing.
      dtype: of the forward and backward pass, ``'float32'``, ``'tf32'`` or ``'bfloat16'``; see
        `dnas.arithmetic`. Parameters, running averages, optimizer and loss are float32 in all of
        them, and so is the test. Only accelerators are faster with the last two; CPUs emulate
        ``'bfloat16'``, many times slower.

    Raises:
      ValueError: a setting is out of its range, or without effect.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    averaging: int = 0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0
    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            checks.whole(name, getattr(self, name))
        checks.positive("learning_rate", self.learning_rate)
        for name in ("momentum", "drop_path"):
            checks.fraction(name, getattr(self, name))
        for name in ("final_learning_rate", "weight_decay", "clip_norm", "auxiliary_weight"):
            checks.not_negative(name, getattr(self, name))
        for name in ("crop_padding", "cutout", "averaging"):
            checks.whole(name, getattr(self, name), least=0)
        for name in ("nesterov", "flip"):
            checks.true_or_false(name, getattr(self, name))
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate}: expected at most "
                f"learning_rate={self.learning_rate}"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True: expected False where momentum is 0")
        arithmetic.check(self.dtype)

    @property
    def augment(self) -> Augment:
        """The random changes of the training images."""
        return Augment(self.crop_padding, self.flip, self.cutout)


def darts_recipe(**changes: Any) -> Recipe:
    """The recipe of DARTS for CIFAR-10 (Liu et al., 2019, section 3.2 and appendix A.2).

    Meant for 36 channels and 20 cells. The published code steps the cosine once an epoch;
    `learning_rate` follows it at every step.

    Args:
      **changes: settings that differ from the published ones.
    """
    published = Recipe(
        epochs=600,
        batch_size=96,
        learning_rate=0.025,
        weight_decay=3e-4,
        clip_norm=5.0,
        auxiliary_weight=0.4,
        drop_path=0.2,
        crop_padding=4,
        flip=True,
        cutout=16,
    )
    return _changed(published, changes)


def nas_bench_201_recipe(**changes: Any) -> Recipe:
    """The recipe of NAS-Bench-201 (Dong & Yang, 2020, table 1).

    Meant for 16 channels and 5 cells a stage.

    Args:
      **changes: settings that differ from the published ones.
    """
    published = Recipe(
        epochs=200,
        batch_size=256,
        learning_rate=0.1,
        nesterov=True,
        weight_decay=5e-4,
        crop_padding=4,
        flip=True,
    )
    return _changed(published, changes)


def recurrent_recipe(**changes: Any) -> Recipe:
    """The recipe of DARTS for recurrent cells (Liu et al., 2019, appendix A.2.2).

    Meant for 850 channels and texts with a validation part. Windows are of one length here; that of
    the authors' program is drawn around 35 in each step, and scales the learning rate.

    Args:
      **changes: settings that differ from the published ones.
    """
    published = Recipe(
        epochs=8000,
        batch_size=64,
        learning_rate=20.0,
        final_learning_rate=20.0,
        momentum=0.0,
        weight_decay=8e-7,
        clip_norm=0.25,
        averaging=5,
    )
    return _changed(published, changes)


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    checks.names("a recipe", changes, [field.name for field in dataclasses.fields(Recipe)])
    return dataclasses.replace(recipe, **changes)


def warn_of_stem(space: SearchSpace, recipe: Recipe) -> None:
    """Warns where a network with DARTS' stem for ImageNet is to be trained as for CIFAR-10.

    The published recipe for ImageNet (Liu et al., 2019, appendix A.3, and the authors' program)
    also crops and scales images at random and smooths labels, which is not there yet.
    """
    if not isinstance(space, DARTS) or space.stem != "imagenet":
        return
    cifar = darts_recipe()
    kept = [
        f"{name}={value!r} ({_IMAGENET[name]!r})"
        for name, value in dataclasses.asdict(recipe).items()
        if name in _IMAGENET and value == getattr(cifar, name)
    ]
    if kept:
        warnings.warn(
            "the network has DARTS' stem for ImageNet, but its recipe is still that for CIFAR-10: "
            f"{', '.join(kept)}; in parentheses is what was published for ImageNet",
            stacklevel=3,
        )


def optimizer(recipe: Recipe, total_steps: int) -> optax.GradientTransformation:
    """The recipe's stochastic gradient descent, see `dnas.gradient.optimizers.sgd`."""
    sgd = optimizers.sgd(
        recipe.learning_rate,
        recipe.final_learning_rate,
        total_steps,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        nesterov=recipe.nesterov,
    )
    return optimizers.averaged(sgd) if recipe.averaging else sgd


def tested(recipe: Recipe, params: Any, opt_state: Any) -> Any:
    """The weights that a network is tested with: the optimizer's average, where it has one."""
    return opt_state.average if recipe.averaging else params


def drop_path(recipe: Recipe, step: jax.Array, total_steps: int) -> jax.Array:
    """The probability that a path is dropped at this step; `step` may be traced."""
    return recipe.drop_path * step / total_steps


class Settings(NamedTuple):
    """The section `train` of a config.

    Attributes:
      recipe: how the network is trained.
      channels: of the network; None for those of the space.
      cells: of the network, as its space counts them; likewise.
      seeds: one training for each.
    """

    recipe: Recipe
    channels: int | None
    cells: int | None
    seeds: tuple[int, ...]

    def sized(self, space: Any) -> Any:
        """The space with the size of the networks to train.

        Raises:
          ValueError: the space has no such size.
        """
        fields = [field.name for field in dataclasses.fields(space)]
        sizes = {"channels": self.channels, "cells": self.cells}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        for name, size in sizes.items():
            if name not in fields:
                raise ValueError(
                    f"train.{name}={size}: expected None, since networks of the space "
                    f"{space.name!r} have no {name}"
                )
        return dataclasses.replace(space, **sizes)


PUBLISHED = {
    "darts": Settings(darts_recipe(), channels=36, cells=20, seeds=(0, 1, 2)),
    "nas_bench_201": Settings(nas_bench_201_recipe(), channels=16, cells=5, seeds=(0, 1, 2)),
    "recurrent": Settings(recurrent_recipe(), channels=850, cells=None, seeds=(0, 1, 2)),
}


def published(space: str, **changes: Any) -> dict[str, Any]:
    """The config section of a space's published training.

    Args:
      space: the space's name.
      **changes: keys of the section that differ, for instance ``epochs=20, channels=16``.

    Raises:
      ValueError: no recipe is published for this space, or a change is no key or no good value.
    """
    if space not in PUBLISHED:
        raise ValueError(
            f"no published recipe for space {space!r}, only for {sorted(PUBLISHED)}; "
            "make a section with `section`"
        )
    return section(from_section({**section(PUBLISHED[space]), **changes}))


def section(settings: Settings) -> dict[str, Any]:
    """The settings as a flat dictionary, the section `train` of a config."""
    size_and_seeds = settings._asdict()
    return size_and_seeds | dataclasses.asdict(size_and_seeds.pop("recipe"))


def from_section(values: Mapping[str, Any]) -> Settings:
    """Reads what `section` wrote.

    Raises:
      ValueError: a key is unknown or missing, or a value has the wrong type or range; the
        message names the key.
    """
    try:
        return _read_section(dict(values))
    except ValueError as error:
        raise ValueError(f"train.{error}") from error


def _read_section(values: dict[str, Any]) -> Settings:
    fields = [field.name for field in dataclasses.fields(Recipe)]
    keys = sorted([*Settings._fields[1:], *fields])
    if unknown := sorted(set(values) - set(keys)):
        raise ValueError(f"{unknown[0]} must not be there; the keys are {', '.join(keys)}")
    if missing := sorted(set(keys) - set(values)):
        raise ValueError(f"{missing[0]} must be there; dnas.training.recipe.published has all keys")
    for name in ("channels", "cells"):
        if values[name] is not None:
            checks.whole(name, values[name])
    seeds = values["seeds"]
    if not isinstance(seeds, tuple | list) or not seeds:
        raise ValueError(f"seeds={checks.shown(seeds)}: expected a tuple of numbers")
    for seed in seeds:
        checks.seed("seeds", seed)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={checks.shown(seeds)}: expected different numbers")
    recipe = Recipe(**{name: values[name] for name in fields})
    return Settings(recipe, values["channels"], values["cells"], tuple(seeds))
