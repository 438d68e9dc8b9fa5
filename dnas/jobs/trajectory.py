"""Alphas and mixing weights over the epochs of a search."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dnas import discretize
from dnas.runtime.workdir import DamagedError, Workdir
from dnas.space import Mix, SearchSpace

_FILE = "alphas.npz"


class Recorder:
    """Collects alphas and mixing weights, and writes them with the genotype every epoch.

    Attributes:
      trajectory: ``[epochs + 1, rows, options]`` by ``'alphas/<table>'`` and ``'mix/<table>'``.
    """

    def __init__(
        self,
        space: SearchSpace,
        files: Workdir,
        mix: Callable[[Any, jax.Array], Mix],
        state: Any,
    ):
        self._space, self._files, self._mix = space, files, mix
        self.trajectory = {n: a[None] for n, a in self._entry(state).items()}

    def resume(self, trajectory: Mapping[str, np.ndarray]) -> None:
        """Goes on from what a checkpoint holds; warns where alphas.npz holds something else."""
        self.trajectory = dict(trajectory)
        try:
            stored = read(self._files) or {}
        except DamagedError as error:
            warnings.warn(f"{error}; it is written again", stacklevel=2)
            return
        # A killed run is an epoch further in its files than in its checkpoint.
        lacks = [
            name
            for name, array in self.trajectory.items()
            if name not in stored
            or not np.array_equal(np.atleast_1d(stored[name])[: len(array)], array)
        ]
        if lacks:
            warnings.warn(
                f"alphas.npz lacks epochs of {', '.join(lacks)}, or has others than the "
                "checkpoint; it is written again",
                stacklevel=2,
            )

    def record(self, epoch: int, state: Any, means: dict[str, float]) -> dict[str, float]:
        """Takes in an epoch; one that is there already is replaced."""
        self.trajectory = {
            name: np.concatenate([self.trajectory[name][:epoch], array[None]])
            for name, array in self._entry(state).items()
        }
        write(self._files, self.trajectory, self._space)
        mix = last(self.trajectory, "mix")
        self._files.write_text("genotype.json", self._space.discretize(mix).to_json())
        report = discretize.report(mix, self._space.decisions)
        return {f"relative_entropy/{name}": t["relative_entropy"] for name, t in report.items()}

    def _entry(self, state: Any) -> dict[str, np.ndarray]:
        parts = {"alphas": state.alphas, "mix": self._mix(state.alphas, state.step)}
        # Copies: the state behind them is donated to the next step.
        return {f"{p}/{name}": np.array(x) for p, tree in parts.items() for name, x in tree.items()}


def write(files: Workdir, trajectory: Mapping[str, np.ndarray], space: SearchSpace) -> None:
    """Writes alphas.npz: the trajectory, and what its axes are called.

    ``'rows/<table>'`` and ``'options/<table>'`` hold the names, as arrays of text;
    ``'part/<table>'`` and ``'chooses/<table>'`` what else a `dnas.space.Decision` knows.
    """
    names = {}
    for table, decision in space.decisions.items():
        facts = {**decision._asdict(), "chooses": decision.chooses}
        names |= {f"{name}/{table}": np.array(value) for name, value in facts.items()}
    files.write_arrays(_FILE, {**trajectory, **names})


def read(files: Workdir) -> dict[str, np.ndarray] | None:
    """The trajectory that `write` wrote; None where there is no such file."""
    stored = files.read_arrays(_FILE)
    if stored is None:
        return None
    return {name: x for name, x in stored.items() if name.startswith(("alphas/", "mix/"))}


def tables(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a trajectory, ``'alphas'`` or ``'mix'``, by table."""
    prefix = f"{part}/"
    return {n.removeprefix(prefix): x for n, x in trajectory.items() if n.startswith(prefix)}


def last(trajectory: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """The last entries of `tables`."""
    return {name: array[-1] for name, array in tables(trajectory, part).items()}
