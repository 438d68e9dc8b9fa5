"""Compiling what runs once, the initialisation of a state."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """Jits ``key -> state`` for a quick compilation instead of a quick run.

    A network draws dozens of random kernels, and XLA's CPU backend optimises the generator anew
    for each of them: 9.4 s for a small network whose initialisation then takes milliseconds.
    Without that optimisation it is 1.1 s, for the same numbers.

    Args:
      init: the function; it will be one program.
    """
    if jax.default_backend() != "cpu":
        return jax.jit(init)
    return jax.jit(init, compiler_options={"xla_backend_optimization_level": 0})
