"""Selections among whole architectures: a strategy and an evaluator each."""

import jax

from dnas import checks
from dnas.selection.base import Selected, Selection, Trained
from dnas.selection.mixing import strongest
from dnas.strategies import LocalSearch, Racing, Random, from_mix, racing, run


def best_of_samples(count: int = 100, temperature: float = 1.0) -> Selection:
    """Draws architectures from the mixing weights and takes the one that validates best.

    Random search with shared weights. It is the last step of random search with weight sharing (Li
    and Talwalkar, 2019), whose mixing weights are all alike; see `dnas.strategies.sample` for how
    architectures are drawn.

    Args:
      count: architectures to draw. What is drawn twice is validated once.
      temperature: mixing weights are raised to the power of its inverse; above 1 architectures
        differ more, far above they are uniform.
    """
    checks.whole("count", count)
    checks.positive("temperature", temperature)

    def select(trained: Trained) -> Selected:
        draw = from_mix(trained.space, trained.mix, temperature)
        strategy = Random(draw, draws=count, patience=count)
        state = run(strategy, trained.shared_weights, trained.key, at_a_time=count)
        best, known = strategy.best(state), state.known
        found = {
            "drawn": state.drawn,
            "different": len(known),
            "best": {part: best[part] for part in best.parts()},
        }
        scores = [score.facts for score in known.values()]
        return Selected(best, [found | known[best].facts | {"scores": scores}])

    return select


def local_search(start: Selection | None = None, sweeps: int = 3) -> Selection:
    """Improves an architecture, row by row, with the shared weights.

    `dnas.strategies.LocalSearch` with shared weights.

    Args:
      start: selects the first architecture; `strongest` by default.
      sweeps: through all rows, at most.
    """
    checks.whole("sweeps", sweeps)
    start = start or strongest()

    def select(trained: Trained) -> Selected:
        first, record = start(trained)
        strategy = LocalSearch(trained.space, first, sweeps)
        key = jax.random.fold_in(trained.key, 1)
        state = run(strategy, trained.shared_weights, key)
        for choice, before, genotype in state.steps:
            option = genotype[choice.part].get(choice.row)
            scores = {"instead_of": before.facts} | state.known[genotype].facts
            record = [*record, choice.place | {"option": option} | scores]
        return Selected(strategy.best(state), record)

    return select


def short_trainings(
    start: Selection | None = None,
    epochs: float = 1.0,
    sigmas: float = 3.0,
    count: int = 36,
    rivals: int = 4,
    longer: int = 4,
    decisive: float = 4.0,
    confirmations: int = 1,
) -> Selection:
    """Corrects an architecture where trainings from scratch contradict it.

    `dnas.strategies.Racing` with short trainings. A supernet cannot tell what a deep network needs
    to be trained at all: some of its edges carry a skip connection whatever one of them chooses.
    What is not significant stays as the search has it. That short trainings rank searches is from
    DARTS (Liu et al., 2019), for whole searches.

    Args:
      start: selects the first architecture; `strongest` by default.
      epochs: of each short training; may be a fraction. Their learning rate is four times that of
        the search (`dnas.presets.Preset.retraining`).
      sigmas: see `dnas.strategies.Racing`, as for all that follow.
      count: short trainings at most.
      rivals: moves that are proposed together.
      longer: how many times longer those trainings are that decide.
      decisive: standard errors that they ask for.
      confirmations: number of other initial weights that have to agree.
    """
    checks.positive("epochs", epochs, most=checks.MOST_WHOLE)
    numbers = {
        "sigmas": sigmas,
        "count": count,
        "rivals": rivals,
        "longer": longer,
        "decisive": decisive,
        "confirmations": confirmations,
    }
    racing.check(**numbers)
    start = start or strongest()

    def select(trained: Trained) -> Selected:
        first, record = start(trained)
        budget = max(1, trained.steps(epochs))
        strategy = Racing(trained.space, budget, first, trained.mix, **numbers)
        state = run(strategy, trained.short_training, trained.key)
        return Selected(strategy.best(state), [*record, *strategy.record(state)])

    return select
