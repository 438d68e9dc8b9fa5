"""Parts of a method as plain data: a factory, its settings, and what only a search can add.

>>> from dnas.gradient import relax
>>> part(relax.gumbel_softmax, temperature=linear(10.0, 0.1))
gumbel_softmax(temperature=linear(first=10.0, last=0.1), hard=True)

A part is comparable, hashable and printable. It is made when a search is built, because some
settings are schedules over all its steps, and some factories look at its space.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from dnas import checks, schedules

# What a search adds: parameters of these names are no settings of a part.
CONTEXT = ("total_steps", "space", "task")


@dataclasses.dataclass(frozen=True, repr=False)
class Part:
    """A part of a method; `part` makes one.

    Attributes:
      factory: a function that makes what the search uses, such as a
        `dnas.gradient.relax.Relaxation`. Its parameters `total_steps`, `space` and `task`, where it
        has them, get what the search is built with.
      settings: names and values of its other parameters, defaults included; a value may be a part.
    """

    factory: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The factory's name, by which configs choose it."""
        return self.factory.__name__

    def make(self, **context: Any) -> Any:
        """Calls the factory.

        Args:
          **context: `total_steps`, `space` and `task` of the search, as far as they are known.

        Raises:
          ValueError: a setting is out of range; the message begins with its name.
        """
        arguments = {}
        for name, value in self.settings:
            with checks.naming(name):
                arguments[name] = made(value, **context)
        for name in _parameters(self.factory):
            if name in CONTEXT:
                arguments[name] = context[name]
        return self.factory(**arguments)

    def changed(self, **settings: Any) -> "Part":
        """This part with other settings.

        Raises:
          ValueError: it has no such setting.
        """
        return part(self.factory, **{**dict(self.settings), **settings})

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.settings if value is not None]
        return f"{self.name}({', '.join(shown)})"


def part(factory: Callable[..., Any], **settings: Any) -> Part:
    """A part of a method.

    Args:
      factory: see `Part`.
      **settings: values for its parameters, hashable ones; lists become tuples.

    Raises:
      ValueError: the factory has no such parameter, needs a further one, or a value is no plain
        data.
    """
    if not callable(factory):
        raise ValueError(f"factory={checks.shown(factory)}: expected a function that makes a part")
    known = {name: p for name, p in _parameters(factory).items() if name not in CONTEXT}
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        checks.names(factory.__name__, settings, known)
    values = {}
    for name, parameter in known.items():
        if name in settings or parameter.default is not parameter.empty:
            values[name] = settings.get(name, parameter.default)
        elif parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise ValueError(f"{name} is missing: {factory.__name__} needs it")
    values |= settings
    frozen = tuple((name, _frozen(name, value)) for name, value in values.items())
    return Part(factory, frozen)


def linear(first: float, last: float) -> Part:
    """The schedule that goes from one value to the other over the steps of a search."""
    return part(schedules.linear, first=first, last=last)


def made(value: Any, **context: Any) -> Any:
    """What a part makes; anything else is what it is."""
    return value.make(**context) if isinstance(value, Part) else value


@functools.cache
def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def _frozen(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = tuple(_frozen(name, item) for item in value)
    try:
        hash(value)
    except TypeError as error:
        raise ValueError(f"{name}={checks.shown(value)}: expected plain data ({error})") from error
    return value
