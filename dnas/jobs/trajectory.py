"""Alphas and mixing weights over the epochs of a search."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dnas import discretize
from dnas.jobs.workdir import Workdir
from dnas.space import Mix, SearchSpace


class Recorder:
    """Collects alphas and mixing weights, and writes them with the genotype every epoch."""

    def __init__(
        self, space: SearchSpace, files: Workdir, mix: Callable[[Any], Mix], alphas: Mapping
    ):
        self._space, self._files, self._mix = space, files, mix
        stored = read(files)
        self.trajectory = stored or {n: a[None] for n, a in self._entry(alphas).items()}

    def record(self, epoch: int, state: Any, means: dict[str, float]) -> dict[str, float]:
        """Takes in an epoch; one that a resumed run repeats replaces what it wrote before."""
        entry = self._entry(state.alphas)
        lost = epoch - min(map(len, self.trajectory.values()))
        if lost > 0:
            warnings.warn(
                f"alphas.npz lacks {lost} of the epochs before {epoch}; they become NaN",
                stacklevel=2,
            )
        self.trajectory = {
            name: np.concatenate([_padded(self.trajectory[name][:epoch], epoch), array[None]])
            for name, array in entry.items()
        }
        write(self._files, self.trajectory, self._space)
        mix = last(self.trajectory, "mix")
        self._files.write_text("genotype.json", self._space.discretize(mix).to_json())
        report = discretize.report(mix, self._space.decisions)
        return {f"relative_entropy/{name}": t["relative_entropy"] for name, t in report.items()}

    def _entry(self, alphas: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        parts = {"alphas": alphas, "mix": self._mix(alphas)}
        # Copies: the state behind them is donated to the next step.
        return {f"{p}/{name}": np.array(x) for p, tree in parts.items() for name, x in tree.items()}


def write(files: Workdir, trajectory: Mapping[str, np.ndarray], space: SearchSpace) -> None:
    """Writes alphas.npz: the trajectory, and what its axes are called.

    ``'rows/<table>'`` and ``'options/<table>'`` hold the names, as arrays of text.
    """
    names = {}
    for table, (rows, options) in space.decisions.items():
        names |= {f"rows/{table}": np.array(rows), f"options/{table}": np.array(options)}
    files.write_arrays("alphas.npz", {**trajectory, **names})


def read(files: Workdir) -> dict[str, np.ndarray] | None:
    """The trajectory that `write` wrote; None where there is no such file."""
    stored = files.read_arrays("alphas.npz")
    if stored is None:
        return None
    return {name: x for name, x in stored.items() if name.startswith(("alphas/", "mix/"))}


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """NaN behind what is there, so that positions stay epochs."""
    lost = np.full((length - len(array), *array.shape[1:]), np.nan, array.dtype)
    return np.concatenate([array, lost])


def tables(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a trajectory, ``'alphas'`` or ``'mix'``, by table."""
    prefix = f"{part}/"
    return {n.removeprefix(prefix): x for n, x in trajectory.items() if n.startswith(prefix)}


def last(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The last entries of `tables`."""
    return {name: array[-1] for name, array in tables(trajectory, part).items()}


def bridged(array: np.ndarray) -> np.ndarray:
    """Lost epochs by straight lines between those that are known, for pictures only."""
    lost = np.isnan(array).any(axis=(1, 2))
    where, known = np.flatnonzero(lost), np.flatnonzero(~lost)
    bridged = array.reshape(len(array), -1).copy()
    for column in bridged.T:  # views: they write to `bridged`
        column[where] = np.interp(where, known, column[known])
    return bridged.reshape(array.shape)
