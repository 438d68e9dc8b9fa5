"""Data sets by their names in configs."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from dnas.checks import shown
from dnas.data.dataset import Dataset
from dnas.data.folder import from_folder
from dnas.data.pooling import pooled
from dnas.data.segmented import from_segmented_npz
from dnas.data.sources import digits, from_npz
from dnas.data.table import from_csv
from dnas.data.text import from_text
from dnas.data.tfds_source import from_tfds

_LONGEST = 4096  # characters of a name or a path

# What a config's data.name may say, beside the names of TensorFlow Datasets; the arguments of these
# functions are the other keys.
SETS: Mapping[str, Callable[..., Dataset]] = {
    "digits": digits,
    "folder": from_folder,
    "arrays": from_npz,
    "segmented": from_segmented_npz,
    "csv": from_csv,
    "text": from_text,
}


def load(
    name: str, data_dir: str | None = None, pool: int | None = None, **settings: Any
) -> Dataset:
    """A data set by name.

    Args:
      name: one of `SETS`, such as ``'digits'`` or ``'csv'``; or the name of any image
        classification set of TensorFlow Datasets (``'cifar10'``, ``'mnist'``, ...; see
        `from_tfds`).
      data_dir: the folder of prepared TensorFlow Datasets.
      pool: average images over squares of so many pixels; None leaves examples as they are.
      **settings: other arguments of the function that makes the set, such as `path`; those that
        are None are left to it.

    Returns:
      The data set.

    Raises:
      ValueError: there is no such set, it is of no use here, or it does not read a setting.
      FileNotFoundError: the set is not prepared, or there is nothing at `path`.
    """
    _check_text("name", name)
    make = SETS.get(name, functools.partial(from_tfds, name))
    called = SETS[name].__name__ if name in SETS else from_tfds.__name__
    keys = inspect.signature(make).parameters
    given = {"data_dir": data_dir, **settings}
    given = {key: value for key, value in given.items() if value is not None}
    for key, value in given.items():
        if key in ("data_dir", "path", "target"):
            _check_text(key, value)
        if key not in keys:
            readers = [repr(n) for n, f in SETS.items() if key in inspect.signature(f).parameters]
            hint = f", such as {' or '.join(readers)}, which reads it" if readers else ""
            raise ValueError(
                f"{key}={shown(value)} is not used by the data set {name!r}, which reads "
                f"{' and '.join(keys) or 'nothing: it is embedded'}; leave {key} out, or name "
                f"another set{hint}"
            )
    for key, parameter in keys.items():
        if parameter.default is parameter.empty and key not in given:
            raise ValueError(
                f"{key} must be given with the data set {name!r}; dnas.data.{called} says what "
                "it is"
            )
    data = make(**given)
    return data if pool is None else pooled(data, pool)


def _check_text(key: str, value: Any) -> None:
    """Raises ValueError unless this is as long as names and paths are."""
    if not isinstance(value, str | os.PathLike) or len(os.fspath(value)) > _LONGEST:
        raise ValueError(f"{key}={shown(value)}: expected text of at most {_LONGEST} characters")
