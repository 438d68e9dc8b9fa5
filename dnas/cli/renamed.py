"""Keys of configs that have other names now."""

_SEARCH = {
    "temperature": "relaxation.temperature",
    "final_temperature": "relaxation.temperature=(FIRST,LAST)",
    "hard": "relaxation.hard",
    "inner_steps": "hypergradient.steps",
    "radius": "hypergradient.radius",
    "terms": "hypergradient.terms",
    "series_learning_rate": "hypergradient.learning_rate",
    "iterations": "hypergradient.iterations",
    "damping": "hypergradient.damping",
    "regularizer": "regularizers.name",
    "regularizer_weight": "regularizers.weight",
    "final_regularizer_weight": "regularizers.weight=(FIRST,LAST)",
    "perturbation_radius": "perturbation.radius",
    "final_perturbation_radius": "perturbation.radius=(FIRST,LAST)",
    "skip_limit": "stopping.limit",
    "skips": "selection.limit",
    "deviations": "selection.deviations",
    "tuning_epochs": "selection.epochs",
    "samples": "selection.count",
    "training_epochs": "selection.epochs",
}
_AUGMENT = ("crop_padding", "flip", "cutout")
RENAMED = {f"search.{old}": f"search.{new}" for old, new in _SEARCH.items()} | {
    f"{section}.{key}": f"{section}.augment.{key}"
    for section in ("data", "train")
    for key in _AUGMENT
}


def check(key: str) -> None:
    """Raises ValueError where a key has another name now."""
    if key in RENAMED:
        raise ValueError(f"config.{key} is now config.{RENAMED[key]}")
