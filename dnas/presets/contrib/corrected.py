"""A search whose result short trainings correct."""

from dnas import selection
from dnas.gradient import regularize
from dnas.parts import linear, part
from dnas.presets.preset import Preset, preset

__all__ = ["dnas"]


def dnas(decay: float = 5.0, **changes) -> Preset:
    """A search with a mild beta decay, whose result short trainings from scratch correct.

    The search is first-order DARTS (Liu et al., 2019) with a beta decay (Ye et al., 2022) whose
    weight grows linearly from 0, to a tenth of theirs. The decay keeps skip connections from taking
    over. Alphas wait for a fifth of the epochs, until the weights are worth judging by.

    The architecture is chosen in three steps. Options that the search hardly tells apart give way
    to the one of most parameters (`dnas.selection.largest_of_close`). Of the skip connections of a
    cell the two strongest are kept, as P-DARTS (Chen et al., 2019) does in normal cells. Then
    single changes are tried: each architecture is trained from scratch for a short while, and a
    change is taken where longer trainings confirm that it is better
    (`dnas.selection.short_trainings`). They correct what a supernet cannot tell, such as which skip
    connection a deep network needs to be trained at all.

    Compared: the decay's gradient with NumPy, at three steps, to 1e-5.

    Args:
      decay: weight of the decay at the end of the search. With less of it more edges are skip
        connections; with more of it noise is chosen where a space offers it.
      **changes: other values for the attributes of `Preset`.
    """
    few_skips = part(selection.limited_skips, limit=2, every_part=True)
    start = part(selection.largest_of_close, start=few_skips)
    parts = {
        "regularizers": (part(regularize.beta_decay, weight=linear(0.0, decay)),),
        "warmup": 0.2,
        "alpha_learning_rate": 3e-3,
        "selection": part(selection.short_trainings, start=start),
    }
    return preset(parts, changes)
