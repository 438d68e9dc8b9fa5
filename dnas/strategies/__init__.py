"""Strategies: searches without gradients.

A strategy proposes architectures and learns from their scores (`ask` and `tell`); an evaluator
(`dnas.evaluators`) gives the scores. `run` lets one meet the other:

>>> import dnas
>>> from dnas import evaluators, strategies
>>> space = dnas.spaces.NASBench201()
>>> def convolutions(genotypes, fidelity=evaluators.Fidelity()):
...     counts = [sum("conv" in op for op in g["cell"].values()) for g in genotypes]
...     return evaluators.Scores.of([evaluators.Score(n, 0.0, 1.0, {}) for n in counts])
>>> strategy = strategies.LocalSearch(space)
>>> state = strategies.run(strategy, convolutions, 0)
>>> sum("conv" in op for op in strategy.best(state)["cell"].values())
6
"""

from dnas.strategies.base import Key, Proposal, Strategy, generator, run
from dnas.strategies.local_search import LocalSearch
from dnas.strategies.racing import Racing
from dnas.strategies.random import Random, from_mix, sample

__all__ = [
    "Key",
    "LocalSearch",
    "Proposal",
    "Racing",
    "Random",
    "Strategy",
    "from_mix",
    "generator",
    "run",
    "sample",
]
