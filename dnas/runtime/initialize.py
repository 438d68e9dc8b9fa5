"""Compiling what runs once, the initialisation of a state."""

from collections.abc import Callable
from typing import Any

import jax

from dnas.runtime import programs


def compiled(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """Jits ``key -> state`` for a quick compilation instead of a quick run.

    An initialisation has many small arrays and runs for milliseconds; without XLA's optimisation
    it compiles in less than half the time (a DARTS supernet on a CPU: 4.1 s rather than 9.6),
    for the same numbers.

    Args:
      init: the function; it will be one program.
    """
    if jax.default_backend() != "cpu":
        return programs.once(jax.jit(init))
    options = {"xla_backend_optimization_level": 0}
    return programs.once(jax.jit(init, compiler_options=options), f"options: {options}")
