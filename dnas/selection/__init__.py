"""Selections: from a trained supernet to an architecture.

The strongest weights are not always the best architecture. Where that is in doubt, the supernet can
be asked: its weights are shared by all architectures, so each of them, and each supernet without
some option, can be validated without training.

All happens through mixing weights, on the host, so that one compilation serves all questions. What
can be chosen is in `dnas.choices`.
"""

from dnas.choices import masked, one_hot
from dnas.selection.architectures import best_of_samples, local_search, short_trainings
from dnas.selection.base import Selected, Selection, Supernet, Trained
from dnas.selection.mixing import largest_of_close, limited_skips, strongest
from dnas.selection.stepwise import perturbation, progressive
from dnas.strategies import sample

__all__ = [
    "Selected",
    "Selection",
    "Supernet",
    "Trained",
    "best_of_samples",
    "largest_of_close",
    "limited_skips",
    "local_search",
    "masked",
    "one_hot",
    "perturbation",
    "progressive",
    "sample",
    "short_trainings",
    "strongest",
]
