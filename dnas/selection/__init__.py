"""Selections: from a trained supernet to an architecture.

The strongest weights are not always the best architecture. Where that is in doubt, the supernet can
be asked: its weights are shared by all architectures, so each of them, and each supernet without
some option, can be validated without training.

All happens through mixing weights, on the host, so that one compilation serves all questions. What
an architecture is, only the space knows: whatever was decided is handed to `SearchSpace.discretize`
as weights, and an option can be chosen if the space takes it when it is the strongest of all. That
leaves out the 'none' of DARTS, and the tables of edge weights, without a rule for either.
"""

from dnas.selection.mixing import largest_of_close, limited_skips, strongest
from dnas.selection.retrained import short_trainings
from dnas.selection.shared import Selected, Selection, Shared, masked, one_hot
from dnas.selection.stepwise import perturbation, progressive
from dnas.selection.whole import best_of_samples, local_search, sample

__all__ = [
    "Selected",
    "Selection",
    "Shared",
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
