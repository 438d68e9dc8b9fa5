"""Evaluators: what an architecture is worth.

An evaluator is ``(genotypes, fidelity) -> Scores``: values, of which higher is better, with their
standard errors and what they cost. A strategy (`dnas.strategies`) proposes architectures and learns
from them; any strategy works with any evaluator.
"""

from dnas.evaluators.base import Evaluator, Fidelity, Score, Scores
from dnas.evaluators.full_training import FullTraining
from dnas.evaluators.remembered import Remembered
from dnas.evaluators.shared_weights import SharedWeights
from dnas.evaluators.short_training import ShortTraining
from dnas.evaluators.supernet import Supernet
from dnas.evaluators.table import Lookup, Table

__all__ = [
    "Evaluator",
    "Fidelity",
    "FullTraining",
    "Lookup",
    "Remembered",
    "Score",
    "Scores",
    "SharedWeights",
    "ShortTraining",
    "Supernet",
    "Table",
]
