"""Search spaces: their decisions, supernets and discrete networks."""

from collections.abc import Mapping
from typing import Any

from dnas.space import Mixing, SearchSpace
from dnas.spaces.darts import DARTS
from dnas.spaces.dense import Dense
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.spaces.recurrent import Recurrent

__all__ = ["DARTS", "SPACES", "Dense", "NASBench201", "Recurrent", "known", "rebuild"]

SPACES = {
    space.name: space for space in (NASBench201, DARTS, Recurrent, Dense)
}  # by their names in configs


def known(space: SearchSpace) -> bool:
    """Whether a space is one of the package, so that `rebuild` makes it of its settings."""
    return type(space) is SPACES.get(space.name)


def rebuild(settings: Mapping[str, Any]) -> SearchSpace:
    """The space of the package with these settings.

    Args:
      settings: its name and attributes as JSON holds them, lists for tuples.

    Raises:
      ValueError: there is no such space, or it does not have such settings.
    """
    fields = {key: _tuples(value) for key, value in settings.items() if key != "name"}
    kind = SPACES.get(settings["name"])
    if kind is None:
        raise ValueError(f"space {settings['name']!r}: expected one of {', '.join(SPACES)}")
    if "mixing" in fields:
        fields["mixing"] = Mixing(*fields["mixing"])
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(
            f"the settings of the space {settings['name']!r} are those of another version: {error}"
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
