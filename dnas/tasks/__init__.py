"""What networks are for: inputs, head, loss and metrics, a task a file.

>>> import dnas
>>> task = dnas.tasks.Classification(image_shape=(8, 8, 1), classes=10)
>>> task.inputs.shape, round(task.chance, 2)
((8, 8, 1), 2.3)
"""

from collections.abc import Mapping
from typing import Any

from dnas.checks import shown
from dnas.tasks.augment import Augment, normalise, preprocess
from dnas.tasks.classification import Classification, ClassificationEvaluation
from dnas.tasks.language import LanguageEvaluation, LanguageModelling
from dnas.tasks.regression import Regression, RegressionEvaluation
from dnas.tasks.segmentation import Segmentation, SegmentationEvaluation
from dnas.tasks.task import (
    Batch,
    Estimate,
    Evaluation,
    Measure,
    Sums,
    Task,
    TokenHead,
    added,
    batch_of,
    summary,
)

__all__ = [
    "TASKS",
    "Augment",
    "Batch",
    "Classification",
    "ClassificationEvaluation",
    "Estimate",
    "Evaluation",
    "LanguageEvaluation",
    "LanguageModelling",
    "Measure",
    "Regression",
    "RegressionEvaluation",
    "Segmentation",
    "SegmentationEvaluation",
    "Sums",
    "Task",
    "TokenHead",
    "added",
    "batch_of",
    "normalise",
    "preprocess",
    "rebuild",
    "summary",
]

# What a file's key `task` may name.
_ALL = (Classification, LanguageModelling, Regression, Segmentation)
TASKS: Mapping[str, type] = {kind.name: kind for kind in _ALL}


def rebuild(facts: Mapping[str, Any]) -> Task:
    """The task of the package that `Task.describe` described.

    Raises:
      ValueError: there is no such task, or it does not have these attributes.
    """
    facts = dict(facts)
    name = facts.pop("task", None)
    if name not in TASKS:
        raise ValueError(f"task={shown(name)}: expected one of {', '.join(TASKS)}")
    try:
        return TASKS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})
    except TypeError as error:
        raise ValueError(f"task: {error}") from error
