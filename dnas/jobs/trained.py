"""A search that has come to its end, made ready for selections (see `dnas.selection`)."""

import functools

import numpy as np

from dnas import capabilities, costs
from dnas.evaluators import SharedWeights, ShortTraining, Supernet
from dnas.jobs.stages import Searched
from dnas.runtime.journal import Journal
from dnas.selection import Trained
from dnas.tasks import Task


def trained(searched: Searched, task: Task, journal: Journal, progress: bool = False) -> Trained:
    """Makes what selections need of a finished search. Nothing is compiled before it is used.

    Args:
      searched: the search.
      task: what the supernet was built for.
      journal: answers what was measured before.
      progress: whether trainings show theirs.
    """
    space, method, state, feed = searched.space, searched.method, searched.state, searched.feed
    mix = method.mix(state.alphas, searched.steps)
    mix = {name: np.asarray(table) for name, table in mix.items()}
    supernet = Supernet(
        *(space, task, method, state, feed),
        optimizer=searched.preset.finetuning().weight_optimizer(1),
        going_on=searched.going_on,
        journal=journal,
    )
    short_training = ShortTraining(
        *(space, task, method, feed),
        optimizer=searched.preset.retraining().weight_optimizer,
        others=mix,
        key=searched.key,
        noise=supernet.noise,
        journal=journal,
        progress=progress,
    )
    single_paths = functools.partial(supernet.validate, state, single_path=True)
    count = functools.partial(costs.parameters, space, task)
    return Trained(
        space=space,
        mix=mix,
        key=searched.key,
        supernet=supernet,
        shared_weights=SharedWeights(space, single_paths, mix),
        short_training=short_training,
        parameters=count if isinstance(space, capabilities.Costed) else None,
    )
