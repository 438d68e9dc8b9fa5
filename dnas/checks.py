"""Checks of settings, with errors that name the setting, its value and what was expected."""

import numbers
from typing import Any


def whole(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless a setting is a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}")


def positive(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is a number above zero."""
    if not _is_number(value) or not value > 0:
        raise ValueError(f"{name}={value!r}: expected a number above 0")


def not_negative(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is a number of at least zero."""
    if not _is_number(value) or not value >= 0:
        raise ValueError(f"{name}={value!r}: expected a number of at least 0")


def fraction(name: str, value: Any) -> None:
    """Raises ValueError unless a setting is a number from 0 to below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: expected a number from 0 to below 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
