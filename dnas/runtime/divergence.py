"""What may have made a run diverge: settings far from what anybody uses, or the learning rate."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dnas.runtime.loop import DivergedError

# Ranges within which a setting is no suspect. Zero never is.
_RANGES = {
    "learning_rate": (1e-8, 1.0),
    "alpha_learning_rate": (1e-8, 1.0),
    "final_learning_rate": (1e-12, 1.0),
    "momentum": (1e-3, 0.995),
    "weight_decay": (1e-10, 0.1),
    "alpha_weight_decay": (1e-10, 1.0),
    "alpha_scale": (1e-8, 10.0),
    "clip_norm": (1e-6, 1e3),
    "temperature": (1e-3, 1e3),
    "radius": (1e-6, 1.0),
    "damping": (1e-6, 1e3),
    "step_size": (1e-6, 1.0),
    "weight": (1e-6, 1e3),
    "auxiliary_weight": (1e-6, 10.0),
}
_OTHERS = (1e-10, 1e4)  # of numbers by other names, such as those in functions of one's own
# Levels of a function's description (`dnas.runtime.fingerprint.plain`) and of what users gave.
_LEVELS = ("given", "code", "numbers", "closure", "defaults", "keyword_defaults", "args")
_SHOWN = 3


@contextlib.contextmanager
def explained(settings: Mapping[str, Any]) -> Iterator[None]:
    """Adds to a `DivergedError` which settings of the run may be its cause.

    Args:
      settings: of the run, as plain data; what the user gave, under ``'given'``, names them best.
    """
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{error} {advice(settings)}") from error


def advice(settings: Mapping[str, Any]) -> str:
    """What may help a run with these settings that diverged."""
    found = [(name, value, _suspicion(name, value)) for name, value in _numbers(settings)]
    found = [suspect for suspect in found if suspect[2]]
    given = [suspect for suspect in found if suspect[0].startswith("given.")]
    values = {value for _, value, _ in given}  # what users gave is also found where it was put
    suspects = [text for *_, text in given]
    suspects += [text for _, value, text in found if value not in values]
    if not suspects:
        return "A smaller learning rate or stronger clipping may help."
    return f"Likely the cause: {'; '.join(suspects[:_SHOWN])}."


def _suspicion(name: str, value: float) -> str:
    """Why a setting is suspected; nothing where it is not."""
    levels = [level for level in name.split(".") if level not in _LEVELS]
    # The ends of a schedule are values of the setting that holds it.
    known = next((level for level in reversed(levels) if level in _RANGES), None)
    if isinstance(value, int) and known is None:
        return ""  # a count
    low, high = _OTHERS if known is None else _RANGES[known]
    if value == 0 or low <= abs(value) <= high:
        return ""
    return f"{'.'.join(levels)}={value!r} is extreme (usual are {low:g} to {high:g})"


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in plain data, with the dotted names of where they are."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _numbers(item, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value
