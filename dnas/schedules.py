"""Settings that may change over a search."""

from collections.abc import Callable
from typing import Any

import optax

from dnas import checks


def as_schedule(
    name: str,
    value: optax.ScalarOrSchedule,
    check: Callable[[str, Any], None] = checks.not_negative,
) -> Callable[[Any], Any]:
    """A number as the schedule that always has it; a schedule as it is.

    Args:
      name: of the setting, for errors.
      value: a number, or a function of the search's step, which is traced.
      check: raises ValueError unless the number is a valid one; see `dnas.checks`.
    """
    if callable(value):
        return value
    check(name, value)
    return optax.constant_schedule(value)
