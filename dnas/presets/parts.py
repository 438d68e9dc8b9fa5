"""Parts of methods that look at the space or the task of a search."""

from collections.abc import Callable

import optax

from dnas import capabilities, checks, costs
from dnas.gradient import alignment, regularize, stopping
from dnas.space import SearchSpace, first_part, identities
from dnas.tasks.task import Task

Modify = Callable[[SearchSpace], SearchSpace]


def mixing(
    partial: int | None = None,
    edge_normalization: bool | None = None,
    auxiliary_skip: bool | None = None,
    single_path: bool | None = None,
    optional: bool = False,
) -> Modify:
    """Changes how a space mixes its edges; see `dnas.space.Mixing`.

    Args:
      partial: share of the channels that pass the operations; None leaves it as it is.
      edge_normalization: whether the edges that lead to a node have weights; None likewise.
      auxiliary_skip: whether edges have one more skip connection; None likewise.
      single_path: whether only the option of the largest weight is computed; None likewise.
      optional: whether a space without mixed edges stays as it is.
    """
    if partial is not None:
        checks.whole("partial", partial)
    given = {
        "partial": partial,
        "edge_normalization": edge_normalization,
        "auxiliary_skip": auxiliary_skip,
        "single_path": single_path,
    }
    changes = {name: value for name, value in given.items() if value is not None}

    def modify(space: SearchSpace) -> SearchSpace:
        if capabilities.mixing_of(space) is None and not optional:
            why = f" (it sets {', '.join(changes)})" if changes else ""
            raise ValueError(
                f"this method needs a space whose edges mix operations{why}, and "
                f"{space.name!r} has no field `mixing`; choose another space or method"
            )
        return capabilities.with_mixing(space, **changes)

    return modify


def without_zeros() -> Modify:
    """Leaves 'none', and whatever else is no connection, out of every row that has others."""

    def modify(space: SearchSpace) -> SearchSpace:
        keep: dict[str, dict[str, tuple[str, ...]]] = {}
        for decision in space.decisions.values():
            options = zip(decision.options, decision.traits, strict=True)
            left = tuple(option for option, traits in options if not traits.zero)
            if left and left != decision.options:
                keep.setdefault(decision.part, {}).update(dict.fromkeys(decision.rows, left))
        if not keep:
            return space
        needs = "a method without zeros"
        return capabilities.need(space, capabilities.Restricted, needs).restrict(keep)

    return modify


def skip_count(limit: int = 2, *, space: SearchSpace) -> stopping.Stopping:
    """Stops at the first epoch with so many skip connections (DARTS+; Liang et al., 2019).

    They are counted in the first part of the genotype: normal cells in the DARTS space.

    Args:
      limit: number of skip connections at which to stop.
      space: that is searched.
    """
    part = first_part(space)
    return stopping.skip_count(identities(space, part), limit, part)


def align_weights(weight: optax.ScalarOrSchedule, *, space: SearchSpace) -> alignment.WeightPenalty:
    """The layer alignment of Lambda-DARTS (Movahedi et al., 2023), as a gradient of the weights.

    Args:
      weight: of the term.
      space: that is searched; the cells of all its parts are aligned.
    """
    layers = capabilities.need(space, capabilities.Layered, "an alignment of cells").layers
    parts = {name: decision.part for name, decision in space.decisions.items()}
    return alignment.align_weights(weight, layers, parts)


def parameters(
    weight: optax.ScalarOrSchedule, *, space: SearchSpace, task: Task
) -> regularize.Regularizer:
    """The expected number of parameters, as a fraction of the largest.

    Args:
      weight: of the term.
      space: that is searched.
      task: what its networks are built for.
    """
    return regularize.expected_cost(costs.parameters(space, task), weight)


def multiply_adds(
    weight: optax.ScalarOrSchedule, *, space: SearchSpace, task: Task
) -> regularize.Regularizer:
    """The expected number of multiply-adds, as a fraction of the largest.

    Args:
      weight: of the term.
      space: that is searched.
      task: what its networks are built for.
    """
    return regularize.expected_cost(costs.multiply_adds(space, task), weight)
