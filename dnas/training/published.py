"""The recipes with which the authors of a space trained what they found.

`darts_recipe`, `nas_bench_201_recipe` and `recurrent_recipe` give them; keyword arguments change
single settings: ``darts_recipe(epochs=20)``. `published` is a space's whole section of a config.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from dnas import checks
from dnas.space import SearchSpace
from dnas.spaces.darts import DARTS
from dnas.tasks import Augment
from dnas.training.recipe import Recipe, Settings, from_section, section

# Where DARTS' recipe for ImageNet differs from that for CIFAR-10, as far as there are settings.
_IMAGENET = {
    "epochs": 250,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 3e-5,
    "drop_path": 0.0,
    "augment.crop_padding": 0,
    "augment.cutout": 0,
}


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
        augment=Augment(crop_padding=4, flip=True, cutout=16),
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
        augment=Augment(crop_padding=4, flip=True),
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


PUBLISHED = {
    "darts": Settings(darts_recipe(), channels=36, cells=20, seeds=(0, 1, 2)),
    "nas_bench_201": Settings(nas_bench_201_recipe(), channels=16, cells=5, seeds=(0, 1, 2)),
    "recurrent": Settings(recurrent_recipe(), channels=850, cells=None, seeds=(0, 1, 2)),
}


def published(space: str, **changes: Any) -> dict[str, Any]:
    """The config section of a space's published training.

    Args:
      space: the space's name.
      **changes: keys of the section that differ, for instance ``epochs=20, channels=16``; of
        those of ``augment`` the ones that are not given stay.

    Raises:
      ValueError: no recipe is published for this space, or a change is no key or no good value.
    """
    if space not in PUBLISHED:
        raise ValueError(
            f"no published recipe for space {space!r}, only for {sorted(PUBLISHED)}; "
            "make a section with dnas.training.recipe.section"
        )
    own = section(PUBLISHED[space])
    if isinstance(augment := changes.get("augment"), Mapping):
        changes["augment"] = {**own["augment"], **augment}
    return section(from_section({**own, **changes}))


def warn_of_stem(space: SearchSpace, recipe: Recipe) -> None:
    """Warns where a network with DARTS' stem for ImageNet is to be trained as for CIFAR-10.

    The published recipe for ImageNet (Liu et al., 2019, appendix A.3, and the authors' program)
    also crops and scales images at random and smooths labels, which is not there yet.
    """
    if not isinstance(space, DARTS) or space.stem != "imagenet":
        return
    cifar, own = _flat(darts_recipe()), _flat(recipe)
    kept = [
        f"{name}={own[name]!r} ({value!r})"
        for name, value in _IMAGENET.items()
        if own[name] == cifar[name]
    ]
    if kept:
        warnings.warn(
            "the network has DARTS' stem for ImageNet, but its recipe is still that for CIFAR-10: "
            f"{', '.join(kept)}; in parentheses is what was published for ImageNet",
            stacklevel=3,
        )


def _flat(recipe: Recipe) -> dict[str, Any]:
    """The settings by their dotted names."""
    own = dataclasses.asdict(recipe)
    changes = {f"augment.{name}": value for name, value in own.pop("augment").items()}
    return own | changes
