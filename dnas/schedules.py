"""Settings that may change over a search."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from dnas import checks


class Linear(NamedTuple):
    """A schedule from one value to another.

    Attributes:
      first: value at the first step.
      last: value at the last step.
      total_steps: number of steps.
    """

    first: float
    last: float
    total_steps: int

    def __call__(self, count: Any) -> Any:
        """The value at a step, which may be traced."""
        return optax.linear_schedule(self.first, self.last, max(self.total_steps - 1, 1))(count)


def linear(first: float, last: float, *, total_steps: int) -> optax.Schedule:
    """A schedule that goes from one value to the other over the steps of a search.

    Args:
      first: value at the first step.
      last: value at the last step.
      total_steps: number of steps of the search.

    Raises:
      ValueError: a value is no finite number of at least 0.
    """
    checks.not_negative("first", first)
    checks.not_negative("last", last)
    return Linear(first, last, total_steps)


def fading(rate: float, *, total_steps: int) -> optax.Schedule:
    """The dropout of P-DARTS (Chen et al., 2019), which falls twice.

    It falls linearly to 0.6 of the rate in the first 0.4 of the steps, while alphas wait; then it
    begins again at the rate, and falls exponentially.

    Args:
      rate: value at the first step, and again where alphas begin to move.
      total_steps: number of steps of the search.
    """
    checks.fraction("rate", rate)

    def value(count: Any) -> Any:
        passed = count / total_steps
        return rate * jnp.where(passed < 0.4, 1 - passed, jnp.exp(-5 * (passed - 0.4)))

    return value


def as_schedule(
    name: str,
    value: optax.ScalarOrSchedule,
    check: Callable[[str, Any], None] = checks.not_negative,
) -> Callable[[Any], Any]:
    """A number as the schedule that always has it; a schedule as it is.

    Args:
      name: of the setting, for errors.
      value: a number, or a function of the search's step, which is traced.
      check: raises ValueError unless a number is a valid one; see `dnas.checks`. A linear schedule
        is checked at both of its ends.
    """
    if isinstance(value, Linear):
        check(name, value.first)
        check(name, value.last)
    if callable(value):
        return value
    check(name, value)
    return optax.constant_schedule(value)
