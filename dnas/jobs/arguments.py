"""What is wrong with the arguments of a job, in a line each that says what to write."""

import os
from typing import Any

import jax

from dnas import presets
from dnas.checks import did_you_mean, shown
from dnas.data import Augment, Dataset
from dnas.genotype import Genotype
from dnas.tasks import Task, batch_of
from dnas.training.recipe import Recipe

_SPACE = ("name", "decisions", "supernet", "network", "discretize", "sample", "validate")


def check_space(space: Any) -> None:
    """Raises ValueError unless this is a `dnas.space.SearchSpace`."""
    if isinstance(space, type):
        raise ValueError(
            f"space: {space.__name__} is a class; make a space of it: {space.__name__}(...)"
        )
    missing = [name for name in _SPACE if name not in dir(space)]
    if "decisions" not in dir(space):
        raise ValueError(
            f"space={shown(space)}: expected a search space, such as dnas.spaces.NASBench201()"
        )
    if missing:
        raise ValueError(
            f"space: {type(space).__name__} lacks {', '.join(map(repr, missing))}, which every "
            "space has; dnas.space.SearchSpace documents it"
        )
    try:
        hash(space)
    except TypeError as error:
        raise ValueError(
            f"space: {type(space).__name__} cannot be hashed ({error}); make it a frozen "
            "dataclass whose attributes are numbers, names and tuples"
        ) from error


def check_preset(preset: Any) -> None:
    """Raises ValueError unless this is a method with its settings."""
    if isinstance(preset, str):
        hint = f"write dnas.presets.{preset}()"
        if preset not in presets.PRESETS:
            hint = f"such as dnas.presets.darts(){did_you_mean(preset, presets.PRESETS)}"
        raise ValueError(f"preset={shown(preset)}: expected a preset; {hint}")
    if any(preset is make for make in presets.PRESETS.values()):
        name = preset.__name__
        raise ValueError(f"preset: {name} is a function; call it: dnas.presets.{name}()")
    if not isinstance(preset, presets.Preset):
        raise ValueError(f"preset={shown(preset)}: expected a preset, such as dnas.presets.darts()")


def check_data(data: Any) -> None:
    """Raises ValueError unless this is a data set."""
    _expect(
        *("data", data, Dataset),
        "arrays become one by dnas.data.from_arrays(x_train, y_train, x_test, y_test), names by "
        "dnas.data.load(name)",
    )


def check_genotype(genotype: Any) -> None:
    """Raises ValueError unless this is a genotype."""
    _expect(
        *("genotype", genotype, Genotype),
        "a search's is result.genotype, a file's dnas.Genotype.load(path), a published text's "
        "space.parse(text)",
    )


def check_recipe(recipe: Any) -> None:
    """Raises ValueError unless this is a recipe."""
    _expect("recipe", recipe, Recipe, "such as dnas.training.published.darts_recipe(epochs=20)")


def check_augment(augment: Any) -> None:
    """Raises ValueError unless this is an augmentation."""
    _expect("augment", augment, Augment, "such as dnas.data.Augment(crop_padding=4, flip=True)")


def check_prepared(task: Task) -> None:
    """Raises ValueError unless the examples are large enough for the task's augmentation."""
    batch = batch_of(task.examples, 1)
    # Traces; compiles nothing.
    jax.eval_shape(lambda key, batch: task.prepare(key, batch, True), jax.random.key(0), batch)


def check_table(table: Any) -> None:
    """Raises ValueError if this is the path of a table instead of the table."""
    if isinstance(table, str | os.PathLike):
        raise ValueError(
            f"table={shown(table)}: expected a table; write dnas.benchmarks.NASBench201(path)"
        )


def _expect(name: str, value: Any, kind: type, hint: str) -> None:
    if not isinstance(value, kind):
        got = value.__name__ if isinstance(value, type) else type(value).__name__
        raise ValueError(f"{name}: expected an object of {kind.__name__}, got {shown(got)}; {hint}")
