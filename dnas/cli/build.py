"""From the sections of a config to the objects they stand for, checked key by key.

A config is nested dictionaries. Settings that nothing reads are errors, never ignored: keys of a
section that are None are left to the method or space, any other value must have an effect.
"""

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import Any, cast

from dnas import checks, parts, presets
from dnas import data as datasets
from dnas.checks import naming
from dnas.cli import keys
from dnas.parts import Part
from dnas.presets.kinds import KINDS, named
from dnas.space import SearchSpace
from dnas.spaces import DARTS, SPACES

Config = Mapping[str, Any]

_NOT_LOADED = ("train_limit", "augment")


def check_keys(config: Config, needed: tuple[str, ...]) -> None:
    """Checks the keys of a config, the types of their values, and the seed.

    Raises:
      ValueError: one is unknown, of another type, or missing.
    """
    keys.check(config)
    for key in needed:
        if config.get(key) is None:
            raise ValueError(f"config.{key} is missing; the config file must set it")
    with naming("config"):
        checks.seed("seed", config["seed"])


def make_space(config: Config, given: Collection[str] = ()) -> SearchSpace:
    """The search space of ``config.space``; its keys are the arguments of the space's class.

    Args:
      config: the whole config.
      given: the keys that the command line sets. Where it names another space, what the config
        file says of the space that it meant is dropped.
    """
    settings = _given(config["space"])
    name = settings.pop("name", None)
    space = _choose("config.space.name", name, SPACES)
    allowed = [field.name for field in dataclasses.fields(space)]
    if space is DARTS:
        allowed.append("subset")
    for key in [key for key in settings if key not in allowed]:
        if f"space.{key}" in given or "space.name" not in given:
            raise ValueError(f"config.space.{key} is not used by the space {name!r}")
        del settings[key]
    # Hashable, as spaces must be.
    frozen: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    with naming("config.space"):
        subset = frozen.pop("subset", None)
        return space(**frozen) if subset is None else DARTS.subset(subset, **frozen)


def make_data(config: Config) -> datasets.Dataset:
    """The data set of ``config.data``, of at most `train_limit` examples."""
    section = _given(config["data"])
    with naming("config.data"):
        data = datasets.load(**{k: v for k, v in section.items() if k not in _NOT_LOADED})
    if "train_limit" not in section:
        return data
    with naming("config.data.train_limit"):
        limited = datasets.limit(data.train, section["train_limit"], config["seed"])
    return dataclasses.replace(data, train=limited)


def make_augment(config: Config) -> datasets.Augment:
    """What a search does to examples: ``config.data.augment``."""
    with naming("config.data.augment"):
        return datasets.Augment(**_given(config["data"].get("augment") or {}))


def make_preset(config: Config) -> presets.Preset:
    """The method that ``config.preset`` names, with the changes of ``config.search``.

    A part whose name is given takes the place of the method's; settings without a name change the
    method's own part. Every key that is None leaves what the method has.
    """
    factory = _choose("config.preset", config["preset"], presets.PRESETS)
    own, section, changes = factory(), config["search"], {}
    for key, value in _given(section).items():
        if key not in KINDS:
            kind = cast(keys.Key, cast(keys.Section, keys.SECTIONS["search"])[key])
            schedule = kind.type is keys.SCHEDULE
            changes[key] = _schedule(value) if schedule else value
        elif (settings := _given(value)) and key == "regularizers":
            before = own.regularizers[0] if len(own.regularizers) == 1 else None
            part = _part(f"config.search.{key}", key, settings, before)
            changes[key] = () if part is None else (part,)
        elif settings:
            changes[key] = _part(f"config.search.{key}", key, settings, getattr(own, key))
    with naming("config.search"):
        return factory(**changes)


def _part(where: str, kind: str, settings: dict[str, Any], own: Any) -> Part | None:
    """The part that a section stands for.

    Args:
      where: the section's dotted name.
      kind: of the part.
      settings: the section.
      own: the method's part; None where there is none.
    """
    known = keys.PartKey(kind)
    name = settings.pop("name", None)
    if name is None and not isinstance(own, Part):
        users = dict.fromkeys(user for key in settings for user in known.users(key))
        raise ValueError(
            f"{where}.{next(iter(settings))} needs {where}.name to be set, to one of "
            f"{', '.join(users)}: this method has no part of its own there"
        )
    chosen = own.name if name is None else _choose(f"{where}.name", name, known.names)
    for key in settings:
        users = known.users(key)
        if chosen not in users:
            meant = f"{where}.name={chosen}" if name else f"{chosen}, the part of this method"
            raise ValueError(
                f"{where}.{key} is not used by {meant}, only by {', '.join(users)}; choose one of "
                f"them by {where}.name"
            )
    if chosen == keys.NONE:
        return None
    types = keys.settings_of(own.factory if name is None else _factory(kind, chosen))
    values = {}
    for key, value in settings.items():
        type_ = types[key]
        if isinstance(type_, keys.PartKey):
            before = None if name else dict(own.settings).get(key)
            value = _part(f"{where}.{key}", type_.kind, _given(value), before)
        elif type_.type is keys.SCHEDULE:
            value = _schedule(value)
        values[key] = value
    with naming(where):
        return own.changed(**values) if name is None else named(kind, name, **values)


def _factory(kind: str, name: str) -> Any:
    return next(f for f in KINDS[kind].factories if f.__name__ == name)


def _schedule(value: Any) -> Any:
    """Two numbers are the ends of a linear schedule."""
    return parts.linear(*value) if isinstance(value, tuple | list) else value


def make_table(config: Config) -> Any:
    """The tabular benchmark in the file ``config.table``; None where there is none."""
    path, space = config.get("table"), config["space"].get("name")
    if path is None:
        return None
    if space != "nas_bench_201":
        raise ValueError(
            f"config.table is a table of the space 'nas_bench_201'; it says nothing about "
            f"config.space.name={space!r}"
        )
    if not os.path.isfile(path):
        raise ValueError(f"config.table={checks.shown(path)}: there is no such file")
    from dnas.benchmarks import NASBench201

    with naming("config.table"):
        return NASBench201(path)


def make_recipe(config: Config) -> Any:
    """How found architectures are trained: ``config.train``, see `dnas.training.recipe`."""
    from dnas.training import recipe

    if config.get("train") is None:
        raise ValueError("config.train is missing: it says how architectures are trained")
    with naming("config"):
        return recipe.from_section(config["train"])


def _choose(key: str, value: Any, choices: Any) -> Any:
    """What a name stands for; ValueError with the key and the choices where it is none of them."""
    if not isinstance(value, str) or value not in choices:
        hint = checks.did_you_mean(value, choices) if isinstance(value, str) else ""
        expected = ", ".join(choices)
        raise ValueError(f"{key}={checks.shown(value)}: expected one of {expected}{hint}")
    return choices[value] if isinstance(choices, Mapping) else value


def _given(section: Config) -> dict[str, Any]:
    """The settings of a section that are not left to their defaults."""
    return {key: value for key, value in section.items() if value is not None}
