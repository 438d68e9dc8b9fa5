"""Mistakes in the settings of a preset, in a line each that says what to write."""

from typing import Any

from dnas import checks, selection
from dnas.gradient import alignment, hypergrad, implicit, perturb, regularize, relax, stopping

# How the parts of a preset that are functions are written.
EXAMPLES = {
    "relaxation": "lambda steps: dnas.gradient.relax.sparsemax()",
    "hypergradient": "dnas.gradient.hypergrad.first_order()",
    "modify": "lambda space: dataclasses.replace(space, cells=3)",
    "regularizers": "lambda steps, space: (dnas.gradient.regularize.l2(1.0),)",
    "weight_penalty": (
        "lambda steps, space: dnas.gradient.alignment.align_weights(1.0, space.layers)"
    ),
    "perturbation": "lambda steps: dnas.gradient.perturb.random_smoothing(0.03)",
    "auxiliary_skip": "lambda steps: optax.linear_schedule(1.0, 0.0, steps)",
    "skip_dropout": "lambda steps: optax.linear_schedule(0.4, 0.0, steps)",
    "stopping": "lambda space: dnas.gradient.stopping.eigenvalue_ratio()",
    "selection": "dnas.selection.perturbation(5.0)",
}
_MODULES = (alignment, hypergrad, implicit, perturb, regularize, relax, selection, stopping)


def check_part(name: str, part: Any) -> None:
    """Raises ValueError unless a part is a function, and none that makes such a part."""
    makers = (value for module in _MODULES for value in vars(module).values())
    if not callable(part) or isinstance(part, type) or any(part is make for make in makers):
        raise _wrong(name, f"got {checks.shown(part)}")


def made(name: str, part: Any, *arguments: Any) -> Any:
    """What a part makes.

    Raises:
      ValueError: it cannot be called with these arguments, or makes something else.
    """
    try:
        result = part(*arguments)
    except TypeError as error:
        raise _wrong(name, f"which failed: {error}") from error
    kinds = {"relaxation": relax.Relaxation, "stopping": stopping.Stopping}
    if name == "regularizers":
        good = isinstance(result, tuple | list) and all(map(callable, result))
    else:
        good = isinstance(result, kinds[name]) if name in kinds else callable(result)
    if not good:
        raise _wrong(name, f"which made {checks.shown(result)}")
    return result


def _wrong(name: str, reason: str) -> ValueError:
    return ValueError(f"{name}: expected a function, as {name}={EXAMPLES[name]}; {reason}")
