"""From the sections of a config to the objects they stand for, checked key by key.

Settings that nothing reads are errors, never ignored: keys of a section that are None are
left to the method or space, any other value must have an effect.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Collection, Iterator
from typing import Any

from ml_collections import ConfigDict

from dnas import checks, presets
from dnas import data as datasets
from dnas.cli.flags import choose, reject_unknown
from dnas.cli.parts import PART_KEYS, PARTS
from dnas.space import SearchSpace
from dnas.spaces import DARTS, SPACES

_SPACE_KEYS = ("name", "channels", "cells", "nodes", "stages", "stem_multiplier", "stem", "subset")
_NOT_AUGMENT = ("name", "data_dir", "path", "size", "train_limit", "pool")
_NOT_READ = ("name", "train_limit", "pool", *datasets.Augment._fields)
_DATA_KEYS = (*_NOT_AUGMENT, *datasets.Augment._fields)
_TOP_KEYS = ("seed", "preset", "space", "data", "search", "train", "compare_random", "table")


# The numbers among the attributes of a preset, by their types; its other parts have no keys.
NUMBERS = {
    f.name: f.type
    for f in dataclasses.fields(presets.Preset)
    if f.type in (int, float) or f.name == "alpha_betas"
}
_SEARCH_KEYS = (*PARTS, *(key for keys in PART_KEYS.values() for key in keys), *NUMBERS)


def check_keys(config: ConfigDict, needed: tuple[str, ...]) -> None:
    """Checks the keys at the top of a config and the seed.

    Raises:
      ValueError: one is unknown or missing.
    """
    reject_unknown("config", config, _TOP_KEYS)
    for key in needed:
        if key not in config:
            raise ValueError(f"config.{key} is missing; the config file must set it")
    with naming("config"):
        checks.seed("seed", config.seed)


def make_space(config: ConfigDict, given: Collection[str] = ()) -> SearchSpace:
    """The search space of ``config.space``; its keys are the arguments of the space's class.

    Args:
      config: the whole config.
      given: the keys that the command line sets. Where it names another space, what the config
        file says of the space that it meant is dropped.
    """
    section = config.space
    reject_unknown("config.space", section, _SPACE_KEYS)
    space = choose("config.space.name", section.name, SPACES)
    settings = _given(section, "name", "subset")
    fields = [field.name for field in dataclasses.fields(space)]
    if section.get("subset") is not None and section.name != "darts":
        raise ValueError(f"config.space.subset is not used by the space {section.name!r}")
    for key in [key for key in settings if key not in fields]:
        if f"space.{key}" in given or "space.name" not in given:
            raise ValueError(f"config.space.{key} is not used by the space {section.name!r}")
        del settings[key]
    with naming("config.space"):
        if section.get("subset") is not None:
            return DARTS.subset(section.subset, **settings)
        return space(**settings)


def make_data(config: ConfigDict) -> datasets.Dataset:
    """The data set of ``config.data``, with its `pool` and `train_limit` applied."""
    section = config.data
    reject_unknown("config.data", section, _DATA_KEYS)
    with naming("config.data"):
        data = datasets.load(section.name, **_given(section, *_NOT_READ))
        data = datasets.pooled(data, section.get("pool", 1))
    if section.get("train_limit") is None:
        return data
    with naming("config.data.train_limit"):
        limited = datasets.limit(data.train, section.train_limit, config.seed)
    return dataclasses.replace(data, train=limited)


def make_augment(config: ConfigDict) -> datasets.Augment:
    """What a search does to images: the augmentation keys of ``config.data``."""
    reject_unknown("config.data", config.data, _DATA_KEYS)
    with naming("config.data"):
        augment = datasets.Augment(**_given(config.data, *_NOT_AUGMENT))
        datasets.preprocess(augment, (0.0,), (1.0,))  # raises what is out of range
    return augment


def make_preset(config: ConfigDict) -> presets.Preset:
    """The method that ``config.preset`` names, with the changes of ``config.search``.

    Every key of the section that is None leaves its attribute of `dnas.presets.Preset` as the
    method has it.
    """
    factory = choose("config.preset", config.preset, presets.PRESETS)
    section = config.search
    reject_unknown("config.search", section, _SEARCH_KEYS)
    parts = {}
    for name in PARTS:
        parts |= _make_part(section, name)
    numbers = {name: value for name, value in _given(section).items() if name in NUMBERS}
    with naming("config.search"):
        return factory(**numbers, **parts)


def _make_part(section: ConfigDict, name: str) -> dict[str, Any]:
    """A part of ``config.search`` by its attribute; nothing where the method's own stays."""
    chosen, (attribute, choices) = section.get(name), PARTS[name]
    settings = {key: value for key, value in _given(section).items() if key in PART_KEYS[name]}
    part = None if chosen is None else choose(f"config.search.{name}", chosen, choices)
    for key in settings:
        users = ", ".join(repr(user) for user, other in choices.items() if key in other.keys)
        if part is None:
            raise ValueError(
                f"config.search.{key} needs config.search.{name} to be set, to one of {users}; "
                "those of the preset's own parts are changed in Python"
            )
        if key not in part.keys:
            raise ValueError(
                f"config.search.{key} is not used by config.search.{name}={chosen!r}, only by "
                f"{users}"
            )
    with naming("config.search"):
        return {} if part is None else {attribute: part.make(**settings)}


def make_table(config: ConfigDict) -> Any:
    """The tabular benchmark in the file ``config.table``; None where there is none."""
    path = config.get("table")
    if path is None:
        return None
    if config.space.name != "nas_bench_201":
        raise ValueError(
            f"config.table is a table of the space 'nas_bench_201'; it says nothing about "
            f"config.space.name={config.space.name!r}"
        )
    if not isinstance(path, str) or not os.path.isfile(path):
        raise ValueError(f"config.table={checks.shown(path)}: there is no such file")
    from dnas.benchmarks import NASBench201

    with naming("config.table"):
        return NASBench201(path)


def make_recipe(config: ConfigDict) -> Any:
    """How found architectures are trained: ``config.train``, see `dnas.jobs.recipe`."""
    from dnas.jobs import recipe

    if config.get("train") is None:
        raise ValueError("config.train is missing: it says how architectures are trained")
    with naming("config"):
        return recipe.from_section(config.train)


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
    """Puts the key of a config in front of the errors of what it stands for."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        # 'channels=0: ...' becomes 'config.space.channels=0: ...'
        joint = "." if re.match(r"[a-z_.]+(=| must)", str(error)) else ": "
        raise type(error)(f"{key}{joint}{error}") from error


def _given(section: ConfigDict, *without: str) -> dict[str, Any]:
    """The settings of a section that are not left to their defaults."""
    return {k: v for k, v in section.items() if v is not None and k not in without}
