"""What the presets are made with."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import optax

from dnas import checks
from dnas.presets.preset import Preset
from dnas.space import SearchSpace


def linear(first: float, last: float) -> Callable[[int], optax.Schedule]:
    """A schedule that goes from one value to the other over the search's steps.

    Raises:
      ValueError: a value is no finite number of at least 0.
    """
    for name, value in {"first": first, "last": last}.items():
        checks.not_negative(name, value)
    return lambda steps: optax.linear_schedule(first, last, max(steps - 1, 1))


def mixing(optional: bool = False, **changes) -> Callable[[SearchSpace], SearchSpace]:
    """Changes how a space mixes its edges; optional changes leave other spaces as they are."""

    def modify(space: SearchSpace) -> SearchSpace:
        if not hasattr(space, "mixing"):
            if optional:
                return space
            raise ValueError(
                f"this method needs a space whose edges mix operations, and {space.name!r} has no "
                "attribute `mixing`; choose another space or method"
            )
        return dataclasses.replace(space, mixing=space.mixing._replace(**changes))

    return modify


def without_zeros(space: SearchSpace) -> SearchSpace:
    """Leaves 'none', and whatever else is no connection, out of every row that has others."""
    keep: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, decision in space.decisions.items():
        options = zip(decision.options, decision.traits, strict=True)
        left = tuple(option for option, traits in options if not traits.zero)
        if left and left != decision.options:
            keep.setdefault(name.split(".")[0], {}).update(dict.fromkeys(decision.rows, left))
    return space.restrict(keep) if keep else space


def make(parts: Mapping[str, Any], changes: Mapping[str, Any]) -> Preset:
    """A preset of these parts and numbers, of which the user changed some."""
    checks.names("a preset", changes, [field.name for field in dataclasses.fields(Preset)])
    return Preset(**{**parts, **changes})
