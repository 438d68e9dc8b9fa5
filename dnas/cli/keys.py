"""The keys of a config: their types and their help, from signatures and docstrings."""

import ast
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import optax

from dnas import checks, presets, spaces
from dnas import data as datasets
from dnas.cli import docstrings
from dnas.parts import CONTEXT
from dnas.presets.kinds import KINDS
from dnas.selection import Selection
from dnas.training import recipe

NONE = "none"  # the name that leaves a part out
_SCHEDULE = frozenset(typing.get_args(optax.ScalarOrSchedule))


class Type(NamedTuple):
    """A type of values.

    Attributes:
      expected: it in words.
      good: whether a value is of it.
    """

    expected: str
    good: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(_is_number, value))


TRUTH = Type("True or False", lambda value: isinstance(value, bool))
TEXT = Type("a text", lambda value: isinstance(value, str))
WHOLE = Type("a whole number", _is_whole)
NUMBER = Type("a number", _is_number)


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)


TEXTS = Type("texts, such as ('a', 'b')", _are_texts)
NUMBERS = Type("numbers, such as (0.5, 0.9)", _are_numbers)
SCHEDULE = Type(
    "a number, or two: (first, last) of a linear schedule",
    lambda value: _is_number(value) or (_are_numbers(value) and len(value) == 2),
)
_PLAIN: Mapping[Any, Type] = {bool: TRUTH, str: TEXT, int: WHOLE, float: NUMBER}


@dataclasses.dataclass(frozen=True)
class Key:
    """A key that holds a value.

    Attributes:
      type: of the value.
      help: what it is, in words.
    """

    type: Type
    help: str = ""

    def read(self, name: str, text: str) -> Any:
        """The value that a text on the command line stands for.

        Raises:
          ValueError: it is none of this type.
        """
        if text == "None":
            return None
        value: Any = text
        if self.type is TRUTH:
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        elif self.type is not TEXT:
            try:
                value = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                value = {"inf": float("inf"), "nan": float("nan")}.get(text, text)
        self.check(name, value)
        return value

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError unless a value is of this type."""
        if value is not None and not self.type.good(value):
            raise ValueError(f"{name}={checks.shown(value)}: expected {self.type.expected}")


class PartKey(NamedTuple):
    """A key that holds a part: a section with its name and its settings.

    Attributes:
      kind: one of `dnas.presets.kinds.KINDS`.
      help: what it is, in words.
    """

    kind: str
    help: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts of the kind."""
        names = tuple(factory.__name__ for factory in KINDS[self.kind].factories)
        return (*names, NONE) if KINDS[self.kind].optional else names

    @property
    def keys(self) -> "Section":
        """The name, and the settings of all parts."""
        found: dict[str, Key | PartKey | Section] = {"name": Key(TEXT, self.help)}
        for factory in KINDS[self.kind].factories:
            found |= {k: key for k, key in settings_of(factory).items() if k not in found}
        return found

    def users(self, setting: str) -> tuple[str, ...]:
        """The names of the parts that have a setting."""
        factories = KINDS[self.kind].factories
        return tuple(f.__name__ for f in factories if setting in settings_of(f))


Section = Mapping[str, "Key | PartKey | Section"]


def settings_of(factory: Callable[..., Any]) -> dict[str, Key | PartKey]:
    """The keys of a part's settings: parameters of its factory of types that a config can hold."""
    parameters = inspect.signature(factory, eval_str=True).parameters
    annotations = {n: p.annotation for n, p in parameters.items() if n not in CONTEXT}
    return _typed(annotations, docstrings.arguments(factory))


def _typed(annotations: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Key | PartKey]:
    found: dict[str, Key | PartKey] = {}
    for name, annotation in annotations.items():
        if _members(annotation) == {Selection}:
            found[name] = PartKey("selection", texts.get(name, ""))
        elif (type_ := _type(annotation)) is not None:
            found[name] = Key(type_, texts.get(name, ""))
    return found


def _members(annotation: Any) -> set[Any]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return (set(typing.get_args(annotation)) if union else {annotation}) - {type(None)}


def _type(annotation: Any) -> Type | None:
    """The type of what an annotation allows beside None and objects; None where there is none."""
    members = _members(annotation)
    if members >= _SCHEDULE:
        return SCHEDULE
    known = [found for member in members if (found := _PLAIN.get(member) or _sequence(member))]
    return known[0] if len(known) == 1 else None


def _sequence(annotation: Any) -> Type | None:
    """The type of tuples and sequences of texts or of numbers; None for any other annotation."""
    items = set(typing.get_args(annotation)) - {Ellipsis}
    if items == {str}:
        return TEXTS
    return NUMBERS if items and items <= {int, float} else None


def _together(owners: Mapping[str, Mapping[str, Key | PartKey]]) -> dict[str, Key]:
    """The keys of several owners; the help of each says what it is for whom."""
    meanings: dict[str, dict[str, list[str]]] = {}
    found: dict[str, Key] = {}
    for owner, fields in owners.items():
        for name, key in fields.items():
            if isinstance(key, Key):
                found.setdefault(name, key)
                meanings.setdefault(name, {}).setdefault(key.help, []).append(owner)
    return {
        name: dataclasses.replace(
            key, help="; ".join(f"{t} ({', '.join(own)})" for t, own in meanings[name].items())
        )
        for name, key in found.items()
    }


def _fields(kind: Any) -> dict[str, Key | PartKey]:
    return _typed(inspect.get_annotations(kind, eval_str=True), docstrings.arguments(kind))


def _space() -> Section:
    found: dict[str, Key | PartKey | Section] = {
        "name": Key(TEXT, f"one of {', '.join(spaces.SPACES)}")
    }
    found |= _together({space.name: _fields(space) for space in spaces.SPACES.values()})
    return found | {"subset": Key(TEXT, "a subset of RobustDARTS, s1 to s4 (darts)")}


def _data() -> Section:
    found: dict[str, Key | PartKey | Section] = {
        "name": Key(TEXT, f"one of {', '.join(datasets.SETS)}, or a set of TensorFlow Datasets"),
        **{n: key for n, key in settings_of(datasets.load).items() if n != "name"},
    }
    own = _together({name: settings_of(make) for name, make in datasets.SETS.items()})
    found |= {name: key for name, key in own.items() if name not in found}
    return found | {
        "train_limit": Key(WHOLE, "use only so many examples of the train split"),
        "augment": _fields(datasets.Augment),
    }


def _search() -> Section:
    fields = inspect.get_annotations(presets.Preset, eval_str=True)
    texts = docstrings.arguments(presets.Preset)
    numbers = {n: a for n, a in fields.items() if n not in (*KINDS, "stages")}
    return {kind: PartKey(kind, texts[kind]) for kind in KINDS} | _typed(numbers, texts)


def _train() -> Section:
    sizes = {
        "channels": Key(WHOLE, "width of the network; by default that of the space"),
        "cells": Key(WHOLE, "cells of the network, as its space counts them; likewise"),
        "seeds": Key(NUMBERS, "one training for each"),
    }
    return sizes | _fields(recipe.Recipe) | {"augment": _fields(datasets.Augment)}


SECTIONS: Section = {
    "seed": Key(WHOLE, "of everything random"),
    "preset": Key(TEXT, f"the method: {', '.join(presets.PRESETS)}"),
    "space": _space(),
    "data": _data(),
    "search": _search(),
    "train": _train(),
    "compare_random": Key(WHOLE, "train the result and so many random architectures"),
    "table": Key(TEXT, "result table of NAS-Bench-201 to look the result up in (CSV)"),
}


def find(dotted: str) -> Key:
    """The key of that name.

    Raises:
      ValueError: there is none, or it is a section; the message says what there is.
    """
    from dnas.cli import renamed

    node: Any = SECTIONS
    words = dotted.split(".")
    for depth, word in enumerate(words):
        if isinstance(node, Key):
            value = ".".join(words[:depth])
            raise ValueError(f"config.{dotted} is unknown: config.{value} is no section")
        keys = node.keys if isinstance(node, PartKey) else node
        if word not in keys:
            renamed.check(".".join(words[: depth + 1]))
            where = ".".join(["config", *words[:depth]])
            raise ValueError(unknown(where, word, keys))
        node = keys[word]
    if isinstance(node, Key):
        return node
    keys = node.keys if isinstance(node, PartKey) else node
    hint = f"; write config.{dotted}.name=..." if "name" in keys else ""
    raise ValueError(f"config.{dotted} is a section: it has {', '.join(keys)}{hint}")


def unknown(where: str, word: str, keys: Section) -> str:
    """What is said of a key that nothing reads."""
    hint = checks.did_you_mean(word, keys)
    return f"{where}.{word} is unknown{hint}; the keys are {', '.join(keys)}"


def check(config: Mapping[str, Any]) -> None:
    """Raises ValueError unless all keys of a config are known and hold values of their types."""
    for name, value in _values("", config):
        find(name).check(f"config.{name}", value)


def _values(prefix: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _values(f"{prefix}{key}.", value)
        elif value is not None:
            yield f"{prefix}{key}", value
