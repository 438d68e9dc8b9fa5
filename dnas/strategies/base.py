"""The contract of strategies, and the loop that runs one against an evaluator."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from dnas import checks
from dnas.evaluators.base import USUAL, Evaluator, Fidelity, Score, Scores
from dnas.genotype import Genotype

State = TypeVar("State")
Key = jax.Array | int
Known = Mapping[Genotype, Score]


class Proposal(NamedTuple):
    """What a strategy wants to know.

    Attributes:
      genotypes: architectures, no two of them equal; none when the search is over.
      fidelity: how closely to look at them.
    """

    genotypes: tuple[Genotype, ...]
    fidelity: Fidelity = USUAL


class Strategy(Protocol[State]):
    """Searches without gradients: it proposes architectures and learns from their scores.

    Methods are pure: they change no state that they get, and everything random follows from the
    key. A state is plain data (tuples, dictionaries, numbers, texts, arrays, genotypes), so that a
    copy of it goes on in the same way.
    """

    def init(self, key: Key, /) -> State:
        """The state before the first proposal.

        Args:
          key: PRNG key, or a seed for NumPy.
        """
        ...

    def ask(self, state: State, n: int, /) -> tuple[Proposal, State]:
        """Proposes at most `n` architectures, whose scores may be computed at the same time."""
        ...

    def tell(self, state: State, proposal: Proposal, scores: Scores, /) -> State:
        """Takes in the scores of what was proposed."""
        ...

    def best(self, state: State, /) -> Genotype:
        """The best architecture so far.

        Raises:
          ValueError: nothing is known yet.
        """
        ...


def run(
    strategy: Strategy[State],
    evaluator: Evaluator,
    key: Key,
    *,
    state: State | None = None,
    evaluations: int | None = None,
    at_a_time: int = 1024,
) -> State:
    """Runs a strategy until it proposes nothing, or its evaluations are used up.

    A run that is interrupted and repeated asks the same questions. With an evaluator that keeps its
    answers (`dnas.evaluators.Remembered`, or those of a search's selection) it ends as the
    uninterrupted run, and nothing is computed twice.

    Args:
      strategy: what proposes.
      evaluator: what answers.
      key: of the strategy: a PRNG key, or a seed for NumPy.
      state: to go on from; by default the first.
      evaluations: architectures to score at most, in this call; by default any number, for
        strategies that come to an end.
      at_a_time: architectures in a proposal, at most.

    Returns:
      The last state; ``strategy.best(state)`` is the result.

    Raises:
      ValueError: a number is too small.
    """
    checks.whole("at_a_time", at_a_time)
    if evaluations is not None:
        checks.whole("evaluations", evaluations)
    state = strategy.init(key) if state is None else state
    left = evaluations
    while left is None or left > 0:
        n = at_a_time if left is None else min(at_a_time, left)
        proposal, state = strategy.ask(state, n)
        if not proposal.genotypes:
            break
        scores = evaluator(proposal.genotypes, proposal.fidelity)
        state = strategy.tell(state, proposal, scores)
        left = None if left is None else left - len(proposal.genotypes)
    return state


def learned(known: Known, proposal: Proposal, scores: Scores) -> dict[Genotype, Score]:
    """What is known of architectures after some more scores."""
    return {**known, **dict(zip(proposal.genotypes, scores.each(), strict=True))}


def best_of(known: Known) -> Genotype:
    """The architecture of the best score, the first of equals.

    Raises:
      ValueError: nothing is known.
    """
    if not known:
        raise ValueError("no architecture has a score yet: ask, evaluate and tell first")
    return max(known, key=lambda genotype: known[genotype].order)


def generator(key: Key) -> np.random.Generator:
    """A generator on the host that a PRNG key, or a seed, stands for."""
    if isinstance(key, int | np.integer):
        return np.random.default_rng(key)
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))


def saved(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a generator as plain data, for `restored`."""
    return dict(rng.bit_generator.state)


def restored(state: Mapping[str, Any]) -> np.random.Generator:
    """The generator that `saved` saved; the state stays as it is."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = dict(state)
    return rng
