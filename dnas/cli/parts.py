"""The parts of a search that ``config.search`` chooses by name, and the keys of their settings."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import optax

from dnas import checks, costs, selection
from dnas.gradient import hypergrad, implicit, perturb, regularize, relax, stopping
from dnas.presets.parts import linear
from dnas.space import SearchSpace, first_part, identities
from dnas.tasks import Classification, Task


@dataclasses.dataclass(frozen=True)
class Part:
    """One choice of a part of the method, such as a relaxation.

    Attributes:
      make: makes the part of its settings.
      keys: the keys of ``config.search`` that are its settings.
    """

    make: Callable[..., Any]
    keys: tuple[str, ...] = ()


def _steady(relaxation: Callable[[], relax.Relaxation]) -> Part:
    return Part(lambda: lambda steps: relaxation())


def _gumbel_softmax(
    temperature: float = 10.0, final_temperature: float = 0.1, hard: bool = True
) -> Callable[[int], relax.Relaxation]:
    """By default as GDAS: hard samples, temperature falling linearly from 10 to 0.1."""
    _check_temperatures(temperature, final_temperature)
    checks.true_or_false("hard", hard)
    schedule = linear(temperature, final_temperature)
    return lambda steps: relax.gumbel_softmax(schedule(steps), hard)


def _reinmax(
    temperature: float = 1.0, final_temperature: float = 1.0
) -> Callable[[int], relax.Relaxation]:
    _check_temperatures(temperature, final_temperature)
    schedule = linear(temperature, final_temperature)
    return lambda steps: relax.reinmax(schedule(steps))


def _check_temperatures(first: float, last: float) -> None:
    checks.positive("temperature", first)
    checks.positive("final_temperature", last)


Regularizers = Callable[[int, SearchSpace], tuple[regularize.Regularizer, ...]]


def _regularizer(make: Callable[[SearchSpace, optax.Schedule], regularize.Regularizer]) -> Part:
    """A regularizer whose weight is steady, or grows or falls linearly."""

    def part(
        regularizer_weight: float = 1.0, final_regularizer_weight: float | None = None
    ) -> Regularizers:
        checks.not_negative("regularizer_weight", regularizer_weight)
        if final_regularizer_weight is None:
            final_regularizer_weight = regularizer_weight
        checks.not_negative("final_regularizer_weight", final_regularizer_weight)
        weight = linear(regularizer_weight, final_regularizer_weight)
        return lambda steps, space: (make(space, weight(steps)),)

    return Part(part, ("regularizer_weight", "final_regularizer_weight"))


def _cost(table: Callable[[SearchSpace, Task], costs.Costs]) -> Part:
    """The expected cost. It is a fraction of the largest, for which any image size does."""
    task = Classification((32, 32, 3), 10)
    return _regularizer(lambda space, w: regularize.expected_cost(table(space, task), w))


def _perturbation(make: Callable[[optax.Schedule], perturb.Perturbation]) -> Part:
    def part(
        perturbation_radius: float = 0.03, final_perturbation_radius: float = 0.3
    ) -> Callable[[int], perturb.Perturbation]:
        checks.not_negative("perturbation_radius", perturbation_radius)
        checks.not_negative("final_perturbation_radius", final_perturbation_radius)
        radius = linear(perturbation_radius, final_perturbation_radius)
        return lambda steps: make(radius(steps))

    return Part(part, ("perturbation_radius", "final_perturbation_radius"))


def _skip_count(skip_limit: int = 2) -> Callable[[SearchSpace], stopping.Stopping]:
    checks.whole("skip_limit", skip_limit)

    def rule(space):
        part = first_part(space)
        return stopping.skip_count(identities(space, part), skip_limit, part)

    return rule


def _limited_skips(skips: int = 2) -> selection.Selection:
    checks.whole("skips", skips, least=0)
    return selection.limited_skips(skips)


def _largest_of_close(deviations: float = 1.0) -> selection.Selection:
    return selection.largest_of_close(deviations=deviations)


def _tuned(make: Callable[[float], selection.Selection]) -> Part:
    def part(tuning_epochs: float = 5.0) -> selection.Selection:
        checks.not_negative("tuning_epochs", tuning_epochs, most=checks.MOST_WHOLE)
        return make(tuning_epochs)

    return Part(part, ("tuning_epochs",))


def _best_of_samples(samples: int = 100) -> selection.Selection:
    checks.whole("samples", samples)
    return selection.best_of_samples(samples)


def _short_trainings(
    training_epochs: float = 1.0, skips: int = 2, deviations: float = 1.0
) -> selection.Selection:
    checks.positive("training_epochs", training_epochs, most=checks.MOST_WHOLE)
    checks.whole("skips", skips, least=0)
    few_skips = selection.limited_skips(skips, every_part=True)
    start = selection.largest_of_close(few_skips, deviations)
    return selection.short_trainings(start, epochs=training_epochs)


def _neumann(terms: int = 3, series_learning_rate: float = 0.01) -> hypergrad.Hypergradient:
    checks.positive("series_learning_rate", series_learning_rate)
    return implicit.neumann(terms, series_learning_rate)


RELAXATIONS = {
    "softmax": _steady(relax.softmax),
    "gumbel_softmax": Part(_gumbel_softmax, ("temperature", "final_temperature", "hard")),
    "reinmax": Part(_reinmax, ("temperature", "final_temperature")),
    "dirichlet": _steady(relax.dirichlet),
    "sigmoid": _steady(relax.sigmoid),
    "sparsemax": _steady(relax.sparsemax),
    "entmax15": _steady(relax.entmax15),
    "uniform_sample": _steady(relax.uniform_sample),
}
HYPERGRADIENTS = {
    "first_order": Part(hypergrad.first_order),
    "unrolled": Part(lambda inner_steps=1: hypergrad.unrolled(inner_steps), ("inner_steps",)),
    "finite_difference": Part(hypergrad.finite_difference, ("radius",)),
    "neumann": Part(_neumann, ("terms", "series_learning_rate")),
    "conjugate_gradient": Part(implicit.conjugate_gradient, ("iterations", "damping")),
    "joint": Part(hypergrad.joint),
    "frozen": Part(hypergrad.frozen),
}
REGULARIZERS = {
    "none": Part(lambda: None),
    "beta_decay": _regularizer(lambda space, weight: regularize.beta_decay(weight)),
    "zero_one": _regularizer(lambda space, weight: regularize.zero_one(weight)),
    "entropy": _regularizer(lambda space, weight: regularize.entropy(weight)),
    "l2": _regularizer(lambda space, weight: regularize.l2(weight)),
    "kl_anchor": _regularizer(lambda space, weight: regularize.kl_anchor(weight)),
    "parameters": _cost(costs.parameters),
    "multiply_adds": _cost(costs.multiply_adds),
}
PERTURBATIONS = {
    "none": Part(lambda: None),
    "random_smoothing": _perturbation(perturb.random_smoothing),
    "adversarial": _perturbation(perturb.adversarial),
}
STOPPINGS = {
    "never": Part(lambda: None),
    "eigenvalue_ratio": Part(lambda: lambda space: stopping.eigenvalue_ratio()),
    "skip_count": Part(_skip_count, ("skip_limit",)),
}
SELECTIONS = {
    "strongest": Part(selection.strongest),
    "limited_skips": Part(_limited_skips, ("skips",)),
    "perturbation": _tuned(selection.perturbation),
    "progressive": _tuned(selection.progressive),
    "largest_of_close": Part(_largest_of_close, ("deviations",)),
    "best_of_samples": Part(_best_of_samples, ("samples",)),
    "local_search": Part(selection.local_search),
    "short_trainings": Part(_short_trainings, ("training_epochs", "skips", "deviations")),
}

# By the key that names the choice: the attribute of `dnas.presets.Preset`, and the choices, which
# take the place of the method's own part; None leaves it out.
PARTS: Mapping[str, tuple[str, Mapping[str, Part]]] = {
    "relaxation": ("relaxation", RELAXATIONS),
    "hypergradient": ("hypergradient", HYPERGRADIENTS),
    "regularizer": ("regularizers", REGULARIZERS),
    "perturbation": ("perturbation", PERTURBATIONS),
    "stopping": ("stopping", STOPPINGS),
    "selection": ("selection", SELECTIONS),
}
PART_KEYS = {
    name: tuple(dict.fromkeys(key for part in choices.values() for key in part.keys))
    for name, (_, choices) in PARTS.items()
}
