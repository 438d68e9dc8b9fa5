"""Recipes: the settings with which a genotype's network is trained from scratch.

A `Recipe` is plain data; `dnas.training.published` has those of the spaces' authors. `section` and
`from_section` turn a recipe, the network's size and the seeds into the section `train` of a config
and back, and `rebuild` reads a recipe that was written as JSON.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax

from dnas import arithmetic, checks
from dnas.gradient import optimizers
from dnas.tasks.augment import NOTHING, Augment


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
      augment: random changes of the training examples; by default none.
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
    augment: Augment = NOTHING
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            checks.whole(name, getattr(self, name))
        checks.positive("learning_rate", self.learning_rate)
        for name in ("momentum", "drop_path"):
            checks.fraction(name, getattr(self, name))
        for name in ("final_learning_rate", "weight_decay", "clip_norm", "auxiliary_weight"):
            checks.not_negative(name, getattr(self, name))
        checks.whole("averaging", self.averaging, least=0)
        checks.true_or_false("nesterov", self.nesterov)
        if not isinstance(self.augment, Augment):
            raise ValueError(
                f"augment={checks.shown(self.augment)}: expected a dnas.data.Augment, such as "
                "Augment(crop_padding=4, flip=True)"
            )
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate}: expected at most "
                f"learning_rate={self.learning_rate}"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True: expected False where momentum is 0")
        arithmetic.check(self.dtype)


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


def section(settings: Settings) -> dict[str, Any]:
    """The settings as the section `train` of a config."""
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
        raise ValueError(
            f"{missing[0]} must be there; dnas.training.published.published has all keys"
        )
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
    recipe = rebuild({name: values[name] for name in fields})
    return Settings(recipe, values["channels"], values["cells"], tuple(seeds))


def rebuild(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that dataclasses.asdict, or a file of it, describes.

    Raises:
      ValueError: a setting is unknown or has no good value, or one of `augment` is missing.
    """
    checks.names("a recipe", settings, [field.name for field in dataclasses.fields(Recipe)])
    augment = settings.get("augment")
    keys = [field.name for field in dataclasses.fields(Augment)]
    if not isinstance(augment, Mapping):
        raise ValueError(
            f"augment={checks.shown(augment)}: expected a section with {', '.join(keys)}"
        )
    with checks.naming("augment"):
        checks.names("the section", augment, keys)
        if missing := [key for key in keys if key not in augment]:
            raise ValueError(f"{missing[0]} must be there; the keys are {', '.join(keys)}")
        changes = Augment(**augment)
    return Recipe(**{**settings, "augment": changes})
