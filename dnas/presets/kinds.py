"""The kinds of parts that a method has, and all parts of each kind.

Whoever writes a part adds a line here. Its settings, their types, the command line's keys and their
help follow from its signature and docstring.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dnas import checks, selection
from dnas.gradient import freeze, hypergrad, implicit, perturb, regularize, relax, stopping
from dnas.parts import Part, part
from dnas.presets import parts


class Kind(NamedTuple):
    """A kind of part.

    Attributes:
      factories: of all parts of this kind.
      made: what a factory makes: a class; or None for a function.
      arguments: number of arguments that such a function takes.
      optional: whether a method may do without; the name ``'none'`` stands for that.
      own: how a part of the user's own is written, for messages.
    """

    factories: tuple[Callable[..., Any], ...]
    made: type | None = None
    arguments: int = 0
    optional: bool = True
    own: str = ""


# By the attribute of `dnas.presets.Preset`, which is the key of a config, too.
KINDS: Mapping[str, Kind] = {
    "relaxation": Kind(
        (
            relax.softmax,
            relax.gumbel_softmax,
            relax.reinmax,
            relax.dirichlet,
            relax.sigmoid,
            relax.sparsemax,
            relax.entmax15,
            relax.uniform_sample,
        ),
        made=relax.Relaxation,
        optional=False,
        own="dnas.gradient.relax.sparsemax()",
    ),
    "hypergradient": Kind(
        (
            hypergrad.first_order,
            hypergrad.unrolled,
            hypergrad.finite_difference,
            implicit.neumann,
            implicit.conjugate_gradient,
            hypergrad.joint,
            hypergrad.frozen,
        ),
        arguments=4,
        optional=False,
        own="dnas.gradient.hypergrad.first_order()",
    ),
    "modify": Kind(
        (parts.mixing, parts.without_zeros),
        arguments=1,
        own="lambda space: dataclasses.replace(space, cells=3)",
    ),
    "regularizers": Kind(
        (
            regularize.beta_decay,
            regularize.zero_one,
            regularize.entropy,
            regularize.l2,
            regularize.kl_anchor,
            parts.parameters,
            parts.multiply_adds,
        ),
        arguments=3,
        own="(dnas.gradient.regularize.l2(1.0),)",
    ),
    "weight_penalty": Kind(
        (parts.align_weights,),
        arguments=5,
        own="dnas.gradient.alignment.align_weights(1.0, space.layers)",
    ),
    "perturbation": Kind(
        (perturb.random_smoothing, perturb.adversarial),
        arguments=4,
        own="dnas.gradient.perturb.random_smoothing(0.03)",
    ),
    "freeze": Kind((freeze.oles,), made=freeze.Freeze, own="dnas.gradient.freeze.oles()"),
    "stopping": Kind(
        (stopping.eigenvalue_ratio, parts.skip_count),
        made=stopping.Stopping,
        own="dnas.gradient.stopping.eigenvalue_ratio()",
    ),
    "selection": Kind(
        (
            selection.strongest,
            selection.limited_skips,
            selection.largest_of_close,
            selection.perturbation,
            selection.progressive,
            selection.best_of_samples,
            selection.local_search,
            selection.short_trainings,
        ),
        arguments=1,
        own="dnas.selection.perturbation(5.0)",
    ),
}


def named(kind: str, name: str, **settings: Any) -> Part:
    """The part of that name.

    Args:
      kind: one of `KINDS`.
      name: of one of its factories.
      **settings: values for the factory's parameters.

    Raises:
      ValueError: there is no such part, or it has no such setting.
    """
    factories = {factory.__name__: factory for factory in KINDS[kind].factories}
    if name not in factories:
        hint = checks.did_you_mean(name, factories)
        raise ValueError(f"name={checks.shown(name)}: expected one of {', '.join(factories)}{hint}")
    return part(factories[name], **settings)


def check(kind: str, value: Any) -> None:
    """Raises ValueError unless a value can be a part of that kind, made or to be made."""
    if not isinstance(value, Part):
        check_made(kind, value)


def check_made(kind: str, value: Any) -> None:
    """Raises ValueError unless a value is what a factory of that kind makes."""
    made, arguments = KINDS[kind].made, KINDS[kind].arguments
    if made is not None:
        good = isinstance(value, made)
    else:
        unmade = isinstance(value, type) or value in KINDS[kind].factories
        good = callable(value) and not unmade and _takes(value, arguments)
    if not good:
        raise ValueError(
            f"{kind}: expected a part, as {kind}={KINDS[kind].own}, or dnas.presets.part(FACTORY, "
            f"...) of a function that makes one; got {checks.shown(value)}"
        )


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    return True
