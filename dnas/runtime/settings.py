"""Settings of a run as it writes them to config.json, and how those of two runs differ.

Beside the settings, config.json holds the number of its schema and the versions of what computed:

    schema      what the names below mean; another number is refused
    versions    one dictionary for each set of versions that went on with the run
"""

import fnmatch
import functools
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from typing import Any

from dnas._version import __version__
from dnas.checks import shown

# Raise it when a name in config.json gets another meaning, or results depend on something new.
SCHEMA = 4
_STAMPS = ("schema", "versions")
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_CODE = "*.code.*"  # bytecode, which is another one in another version of Python
_DIGESTS = {".content": "examples", ".code.digest": "code"}  # what ends so is a hash of
_SPELLED = 120  # characters of a value in a message


@functools.cache
def versions() -> dict[str, str]:
    """The versions of dnas, Python and the libraries that compute."""
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"dnas": __version__, "python": platform.python_version(), **libraries}


def check(stored: Any) -> None:
    """Raises ValueError unless what config.json holds is something that this version can read."""
    if not isinstance(stored, Mapping):
        raise ValueError(f"expected settings, got {shown(stored)}")
    if stored.get("schema") != SCHEMA:
        return  # refused by that, see `contradictions`
    found = stored.get("versions")
    if not isinstance(found, list) or not found or not all(isinstance(v, Mapping) for v in found):
        raise ValueError(f"versions: expected a list of dictionaries, got {shown(found)}")
    if not all(isinstance(text, str) for version in found for text in version.values()):
        raise ValueError(f"versions: expected texts, got {shown(found)}")


def stamped(config: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings with schema and versions, as config.json holds them.

    Args:
      config: the settings of a run.
      stored: what config.json holds so far; None where there is none.
    """
    before = [] if stored is None else stored.get("versions", [])
    now = versions()
    return {
        "schema": SCHEMA,
        "versions": before if before[-1:] == [now] else [*before, now],
        **json.loads(json.dumps(config)),  # tuples become lists, as they will be read back
    }


def contradictions(
    stored: Mapping[str, Any], config: Mapping[str, Any], free: Iterable[str] = ()
) -> list[str]:
    """One line for each setting that keeps a run from going on with what is stored.

    Args:
      stored: what config.json holds.
      config: the settings of the run.
      free: dotted names of settings and sections that may differ.
    """
    if stored.get("schema") != SCHEMA:
        was = "an earlier version of dnas" if "schema" not in stored else "another version of dnas"
        return [
            f"schema: {json.dumps(stored.get('schema'))} there, {SCHEMA} here; it was written by "
            f"{was}, with which it can go on"
        ]
    there, here = stored["versions"][-1].get("python", ""), platform.python_version()
    code = (_CODE,) if there.split(".")[:2] != here.split(".")[:2] else ()
    return differences(stored, stamped(config, stored), (*free, *_STAMPS, *code))


def changed_versions(stored: Mapping[str, Any]) -> str:
    """What computes in another version than it last did: ``jax 0.10.2 there, 0.11.0 here``."""
    there, here = stored["versions"][-1], versions()
    return "; ".join(
        f"{name} {there.get(name)} there, {here.get(name)} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    )


def differences(
    stored: Mapping[str, Any], given: Mapping[str, Any], free: Iterable[str] = ()
) -> list[str]:
    """One line for each setting that differs: ``search.epochs: 50 there, 3 here``.

    Settings that both have come first: they are what a user changed.

    Args:
      stored: the settings in the directory.
      given: the settings of this run.
      free: dotted names of settings and sections that are not compared, or patterns of them.
    """
    there, here = flatten(stored), flatten(given)
    free = tuple(free)

    def compared(name):
        return not any(name.startswith(f + ".") or fnmatch.fnmatchcase(name, f) for f in free)

    def spell(settings, name):
        return json.dumps(settings[name]) if name in settings else "nothing"

    both = [name for name in here if name in there]

    def line(name):
        for ending, what in _DIGESTS.items():
            if name.endswith(ending) and name in there and name in here:
                return f"{name}: other {what} there than here"
        return f"{name}: {_cut(spell(there, name))} there, {_cut(spell(here, name))} here"

    return [
        line(name)
        for name in dict.fromkeys([*both, *here, *there])
        if compared(name) and spell(there, name) != spell(here, name)
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with dotted names; lists of lists by their places."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, list | tuple) and any(isinstance(x, Mapping | list) for x in value):
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _cut(text: str) -> str:
    return text if len(text) <= _SPELLED else f"{text[:_SPELLED]}..."
