"""Checks of settings, with errors that name the setting, its value and what was expected.

Numbers are finite and have upper bounds, generous ones: what lies beyond them overflows, or never
ends, long after it could have been said.
"""

import contextlib
import difflib
import numbers
import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

MOST_WHOLE = 1_000_000
MOST_SEED = 2**32 - 1  # what a PRNG key is made of; larger numbers would wrap to smaller ones
MOST_STEPS = 2**31 - 1
MOST = 1e9  # fourth powers of larger numbers overflow float32
LEAST = 1e-30  # what is divided by smaller numbers overflows float32

_LINE = 100  # characters of a value in a message


class _Line(reprlib.Repr):
    """Representations that are short however large the value is."""

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 4 * _LINE:
            return f"<a whole number of {x.bit_length():,} bits>"
        return super().repr_int(x, level)


_line = _Line()
_line.maxlevel = 4
_line.maxtuple = _line.maxlist = _line.maxdict = _line.maxset = _line.maxfrozenset = 20
_line.maxstring = _line.maxlong = _line.maxother = _LINE


def shown(value: Any) -> str:
    """A value as a message quotes it: its representation, cut to a part of one line."""
    text = " ".join(_line.repr(value).split())
    return text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
    """Puts the name of a setting in front of the errors of what it stands for.

    ``channels=0: ...`` becomes ``space.channels=0: ...``, and any other text ``space: ...``.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        joint = "." if re.match(r"[a-z_.]+(=| must| is missing)", str(error)) else ": "
        raise type(error)(f"{key}{joint}{error}") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'learning_rate'?)"`` for a name close to a known one, else ``""``.

    Names are close by their letters, or as initials: ``lr``.
    """
    known = list(known)
    initials = [k for k in known if "".join(word[:1] for word in k.split("_")) == name]
    close = initials or difflib.get_close_matches(name[:_LINE], known, 1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ValueError unless all names are known settings.

    Args:
      what: that has the settings, in words.
      given: names that a user gave.
      known: those that there are.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(
                f"{shown(name)} is no setting of {what}{did_you_mean(name, known)}; the settings "
                f"are {', '.join(known)}"
            )


def whole(name: str, value: Any, least: int = 1, most: int = MOST_WHOLE, reason: str = "") -> None:
    """Raises ValueError unless a setting is a whole number from `least` to `most`.

    Args:
      name: of the setting.
      value: its value.
      least: the smallest good one.
      most: the largest.
      reason: why there is none beyond, as a subordinate clause.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={shown(value)}: expected a whole number of at least {least}")
    if int(value) > most:
        because = f", {reason}" if reason else ""
        raise ValueError(f"{name}={shown(value)}: expected at most {most:,}{because}")


def seed(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is a seed."""
    whole(name, value, least=0, most=MOST_SEED, reason="since larger seeds wrap to smaller ones")


def steps(epochs: int, steps_per_epoch: int) -> None:
    """Raises ValueError unless the steps of so many epochs can be counted."""
    if epochs * steps_per_epoch > MOST_STEPS:
        raise ValueError(
            f"epochs={epochs}: expected at most {MOST_STEPS // steps_per_epoch:,}, since steps, of "
            f"which an epoch has {steps_per_epoch:,}, are counted in 32 bits"
        )


def positive(name: str, value: Any, most: float = MOST) -> None:
    """Raises ValueError unless a setting is a number above zero, not beyond `most`."""
    _number(name, value, _real(value) > 0, "above 0", most)
    if value < LEAST:
        raise ValueError(
            f"{name}={shown(value)}: expected a number of at least {LEAST:g}, since float32 "
            "overflows when something is divided by a smaller one"
        )


def not_negative(name: str, value: Any, most: float = MOST) -> None:
    """Raises ValueError unless a setting is a number of at least zero, not beyond `most`."""
    _number(name, value, _real(value) >= 0, "of at least 0", most)


def fraction(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is a number from 0 to below 1."""
    if not is_fraction(value):
        raise ValueError(f"{name}={shown(value)}: expected a number from 0 to below 1")


def is_fraction(value: Any) -> bool:
    """Whether this is a number from 0 to below 1."""
    return 0 <= _real(value) < 1


def true_or_false(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}: expected True or False")


def _real(value: Any) -> Any:
    """The number that a setting is; NaN, which no comparison holds for, where it is none."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value if is_number else float("nan")


def _number(name: str, value: Any, good: bool, expected: str, most: float) -> None:
    if not good:
        raise ValueError(f"{name}={shown(value)}: expected a number {expected}")
    if not value <= most:
        reason = ", since powers of larger ones overflow float32" if most == MOST else ""
        raise ValueError(
            f"{name}={shown(value)}: expected a finite number of at most {most:g}{reason}"
        )
