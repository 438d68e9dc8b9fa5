"""The contract of strategies as a check, and a problem whose answer is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dnas.evaluators.base import USUAL, Fidelity, Score, Scores
from dnas.genotype import Genotype
from dnas.space import SearchSpace
from dnas.strategies.base import Proposal, Strategy


class Planted:
    """An evaluator whose values are known: the sum of what the chosen options are worth.

    Attributes:
      worth: of ``(part, row, option)``, drawn when it is first asked for.
    """

    def __init__(self, seed: int = 0):
        """Plants nothing yet; the seed decides what options are worth."""
        self.worth: dict[tuple[str, str, str], float] = {}
        self._seed = seed

    def value(self, genotype: Genotype) -> float:
        """What an architecture is worth, the mean over its rows."""
        chosen = [(p, row, o) for p in genotype.parts() for row, o in genotype[p].items()]
        for place in chosen:
            if place not in self.worth:
                seed = [self._seed, *"/".join(place).encode()]
                self.worth[place] = float(np.random.default_rng(seed).uniform())
        return float(np.mean([self.worth[place] for place in chosen]))

    def __call__(self, genotypes: Sequence[Genotype], fidelity: Fidelity = USUAL) -> Scores:
        """See `dnas.evaluators.Evaluator`."""
        del fidelity
        return Scores.of([Score(self.value(g), 0.01, 1.0, {}) for g in genotypes])


def check_strategy(
    strategy: Strategy[Any],
    space: SearchSpace,
    *,
    key: jax.Array | int = 0,
    evaluations: int = 50,
    at_a_time: int = 4,
) -> None:
    """Checks the contract of `dnas.strategies.Strategy` on a planted problem.

    Proposals are valid, small enough and without repetitions. Methods are pure and deterministic.
    The state is plain data, of which a copy goes on in the same way. The best architecture is one
    that was told, and no worse than the first.

    Args:
      strategy: what is checked.
      space: of its architectures.
      key: of the strategy.
      evaluations: architectures to score, if the strategy asks for so many.
      at_a_time: architectures in a proposal, at most.

    Raises:
      AssertionError: the contract is broken; the message says where.
    """
    evaluator, told = Planted(), []
    state = strategy.init(key)
    other = strategy.init(key)  # a second run, which lives on copies
    _check_nothing_is_best(strategy, state)
    while len(told) < evaluations:
        before = plain(state)
        proposal, asked = strategy.ask(state, at_a_time)
        _expect(same(before, state), "ask changes the state that it gets")
        _check_proposal(proposal, space, at_a_time)
        again, other = strategy.ask(plain(other), at_a_time)
        _expect(again == proposal, "a copy of the state asks for something else")
        if not proposal.genotypes:
            break
        told.extend(proposal.genotypes)
        scores = evaluator(proposal.genotypes, proposal.fidelity)
        before = plain(asked)
        state = strategy.tell(asked, proposal, scores)
        _expect(same(before, asked), "tell changes the state that it gets")
        other = strategy.tell(plain(other), proposal, scores)
        _check_best(strategy, state, evaluator, told)
    _expect(bool(told), "it proposes nothing at all")


def plain(state: Any) -> Any:
    """A copy of plain data: containers, numbers, texts, arrays and genotypes.

    Raises:
      AssertionError: there is something else in it.
    """
    if isinstance(state, Mapping):
        return {plain(key): plain(value) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*map(plain, state))
    if isinstance(state, tuple | list):
        return type(state)(map(plain, state))
    if isinstance(state, np.ndarray | jax.Array):
        return state.copy()
    if isinstance(state, Genotype):
        return Genotype(state.space, state.choices)
    known = state is None or isinstance(state, bool | int | float | str | np.generic)
    _expect(known, f"the state holds an object of {type(state).__name__}; expected plain data")
    return state


def same(one: Any, other: Any) -> bool:
    """Whether two pieces of plain data are equal, arrays included."""
    if isinstance(one, Mapping):
        return (
            isinstance(other, Mapping)
            and list(one) == list(other)
            and all(same(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, jax.Array) and jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
        return same(jax.random.key_data(one), jax.random.key_data(other))
    if isinstance(one, np.ndarray | jax.Array):
        return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)
    return one == other


def _check_nothing_is_best(strategy: Strategy[Any], state: Any) -> None:
    try:
        best = strategy.best(state)
    except ValueError:
        return
    raise AssertionError(f"best names {best} before anything was told; expected ValueError")


def _check_proposal(proposal: Proposal, space: SearchSpace, n: int) -> None:
    found = proposal.genotypes
    _expect(len(found) <= n, f"ask proposes {len(found)} architectures, at most {n} were wanted")
    twice = [genotype for i, genotype in enumerate(found) if genotype in found[:i]]
    _expect(not twice, f"ask proposes an architecture twice: {twice[:1]}")
    for genotype in found:
        try:
            space.validate(genotype)
        except ValueError as error:
            raise AssertionError(f"ask proposes what is not in the space: {error}") from error


def _check_best(
    strategy: Strategy[Any], state: Any, evaluator: Planted, told: Sequence[Genotype]
) -> None:
    best = strategy.best(state)
    _expect(best in told, f"best names {best}, which was never proposed")
    gain = evaluator.value(best) - evaluator.value(told[0])
    _expect(gain >= 0, f"best names {best}, which is worse than the first that was told")


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
