"""Configs: files that make nested dictionaries, and what the command line changes of them."""

import importlib
import pathlib
import pkgutil
import re
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dnas import checks, configs

_FLAG = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)


def names() -> tuple[str, ...]:
    """The names of the configs of the package."""
    found = (module.name for module in pkgutil.iter_modules(configs.__path__))
    return tuple(name for name in found if name != "base")


def load(source: str) -> dict[str, Any]:
    """The config of a name or a file.

    Args:
      source: the name of a config of `dnas.configs`, or the path of a Python file. Its function
        `get_config` returns nested mappings, such as an `ml_collections.ConfigDict`.

    Raises:
      ValueError: there is no such config, or it makes none.
      Exception: whatever a user's file raises.
    """
    if source in names():
        return importlib.import_module(f"dnas.configs.{source}").get_config().to_dict()
    if not pathlib.Path(source).is_file():
        hint = checks.did_you_mean(source, names())
        raise ValueError(
            f"--config={checks.shown(source)}: there is no such file; expected one, or one of "
            f"{', '.join(names())}{hint}"
        )
    made = runpy.run_path(source).get("get_config")
    if made is None:
        raise ValueError(f"--config={source}: expected a function get_config() in this file")
    config = made()
    if isinstance(config, ConfigDict):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ValueError(
            f"--config={source}: get_config() returned {checks.shown(config)}; expected nested "
            "dictionaries"
        )
    return _plain(config)


def split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes ``--config.KEY=VALUE`` out of the command line.

    Args:
      arguments: of the command line.

    Returns:
      The other arguments, and the texts of values by dotted keys.

    Raises:
      ValueError: a value is missing.
    """
    others, given = [], {}
    for argument in arguments:
        match = _FLAG.fullmatch(argument)
        if match is None:
            others.append(argument)
        elif match[2] is None:
            raise ValueError(f"{argument}: its value is missing; write {argument}=VALUE")
        else:
            given[match[1]] = match[2]
    return others, given


def changed(config: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The config with the values of the command line.

    A part that is chosen by another name than in the config loses the settings that it had there.

    Raises:
      ValueError: a key is unknown, or a value of another type than it; in the config as well.
    """
    from dnas.cli import keys

    keys.check(config)
    result = _plain(config)
    # Names first, those of outer sections before those of the parts in them.
    for dotted in sorted(given, key=lambda key: (not key.endswith(".name"), key.count("."))):
        value = keys.find(dotted).read(f"config.{dotted}", given[dotted])
        *path, last = dotted.split(".")
        section = result
        for word in path:
            if section.get(word) is None:  # a file may leave a section out, or at None
                section[word] = {}
            section = section[word]
        if last == "name" and path[:1] == ["search"] and section.get("name") != value:
            section.clear()
        section[last] = value
    return result


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries in place of other mappings, which stay as they are."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()
    }
