"""What only some search spaces can do, by name.

`dnas.space.SearchSpace` is what every space offers. A space has a capability when it has the
members of its protocol; whatever needs one asks here, and nowhere else.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from dnas.genotype import Genotype
from dnas.space import Mixing, SearchSpace, Site
from dnas.tasks import Task

T = TypeVar("T")


@runtime_checkable
class Mixed(Protocol):
    """Its edges mix operations, in one of several ways; a frozen dataclass.

    Attributes:
      mixing: the way, a field of the dataclass.
    """

    mixing: Mixing


@runtime_checkable
class Layered(Protocol):
    """Several cells of its supernet share a table of decisions."""

    @property
    def layers(self) -> Mapping[str, int]:
        """For each table, how many cells of the supernet it decides."""
        ...


@runtime_checkable
class Restricted(Protocol):
    """Some of its rows can do with fewer candidates."""

    def restrict(self, keep: Mapping[str, Mapping[str, Sequence[str]]]) -> SearchSpace:
        """The space in which some rows have fewer candidates: ``{part: {row: candidates}}``.

        Raises:
          ValueError: a part or row does not exist, or did not have such a candidate.
        """
        ...


@runtime_checkable
class Published(Protocol):
    """Its authors publish architectures as text."""

    def parse(self, text: str) -> Genotype:
        """Reads that text."""
        ...

    def format(self, genotype: Genotype) -> str:
        """Writes that text."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """Its networks are built of cells; a frozen dataclass.

    Attributes:
      channels: of the first cells, a field of the dataclass.
      cells: how many there are, as the space counts them, a field of the dataclass.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    channels: int
    cells: int


@runtime_checkable
class Costed(Protocol):
    """Its options are operations on the edges of cells, whose sizes it knows."""

    def sites(self, task: Task) -> Sequence[Site]:
        """The cells of its networks for a task; see `dnas.costs.parameters`."""
        ...


def need(space: Any, capability: type[T], what: str) -> T:
    """The space, as one that has a capability.

    Args:
      space: a search space.
      capability: a protocol of this module.
      what: that needs it, in words, for the message.

    Raises:
      ValueError: the space lacks the capability.
    """
    if not isinstance(space, capability):
        members = sorted({*vars(capability), *inspect.get_annotations(capability)})
        members = ", ".join(name for name in members if not name.startswith("_"))
        raise ValueError(
            f"{what} needs a space with the capability dnas.capabilities.{capability.__name__}, "
            f"and {space.name!r} lacks some of its members: {members}"
        )
    return space


def mixing_of(space: SearchSpace) -> Mixing | None:
    """How a space mixes its edges; None where it has no such choice."""
    return space.mixing if isinstance(space, Mixed) else None


def with_mixing(space: SearchSpace, **changes: Any) -> SearchSpace:
    """The space, mixing its edges otherwise; one without such a choice stays as it is.

    Args:
      space: a search space.
      **changes: attributes of `dnas.space.Mixing`.
    """
    mixing: Any = mixing_of(space)
    if mixing is None:
        return space
    frozen: Any = space
    return dataclasses.replace(frozen, mixing=mixing._replace(**changes))


def as_text(space: SearchSpace, genotype: Genotype) -> str:
    """A genotype in the text form of its space; its choices by name where there is none."""
    if isinstance(space, Published):
        return space.format(genotype)
    return "; ".join(
        f"{part}: {', '.join(f'{row} {option}' for row, option in genotype[part].items())}"
        for part in genotype.parts()
    )
