"""What docstrings say of arguments and attributes, for the help of the command line."""

import inspect
import re
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes):$")
_ITEM = re.compile(r"^  (\**\w+): (.*)$")


def summary(thing: Any) -> str:
    """The first line of a docstring, without its period."""
    return (inspect.getdoc(thing) or "").split("\n")[0].rstrip(".")


def arguments(thing: Any) -> dict[str, str]:
    """What the docstring of a function or class says of each argument or attribute."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in (inspect.getdoc(thing) or "").split("\n"):
        if _SECTION.match(line):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (item := _ITEM.match(line)):
            name = item[1]
            found[name] = item[2]
        elif inside and name and line.strip():
            found[name] += f" {line.strip()}"
    return {name: text.replace("`", "").rstrip(".") for name, text in found.items()}
