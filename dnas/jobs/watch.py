"""Watching a search for the epoch at which it should end, and for what it freezes."""

import warnings
from typing import Any

import jax

from dnas.data import Feed
from dnas.gradient.stopping import Record
from dnas.jobs import doubts
from dnas.jobs.trajectory import Recorder, tables
from dnas.presets.preset import Preset
from dnas.space import SearchSpace


class Watch:
    """Asks the stopping rule of a preset after every epoch, and what is frozen; else does nothing.

    What it knows is what a checkpoint holds, genotypes in the trajectory and eigenvalues in the
    history, so that a resumed search decides as one that was not interrupted.

    Attributes:
      epoch: whose alphas are the result; None as long as the rule did not say.
    """

    def __init__(
        self, preset: Preset, space: SearchSpace, recorder: Recorder, method: Any, feed: Feed
    ):
        """Watches a search.

        Args:
          preset: the method, whose attribute `stopping` is the rule.
          space: that is searched.
          recorder: of the search.
          method: the search as functions for one device.
          feed: where its batches come from.
        """
        self.epoch: int | None = None
        self._stopping = preset.made("stopping", space=space)
        self._space, self._recorder, self._feed = space, recorder, feed
        self._genotypes: list[Any] = []
        self._frozen, self._warned = method.frozen, False
        if self._measures:
            self._eigenvalue = jax.jit(method.eigenvalue)

    @property
    def _measures(self) -> bool:
        return self._stopping is not None and self._stopping.eigenvalue

    def measure(self, epoch: int, state: Any) -> dict[str, float]:
        """What there is to know at the end of an epoch: the share of operations that is frozen.

        For a rule that needs it, the eigenvalue as well, on the batches of the next step.
        """
        return self._measure_frozen(state) | self._measure_eigenvalue(epoch, state)

    def _measure_frozen(self, state: Any) -> dict[str, float]:
        if self._frozen is None:
            return {}
        frozen = self._frozen(state)
        warning = doubts.frozen_at_once(frozen)
        if warning is not None and not self._warned:  # the result will say so, too, but late
            self._warned = True
            warnings.warn(warning, stacklevel=2)
        return {"frozen": float(frozen.share)}

    def _measure_eigenvalue(self, epoch: int, state: Any) -> dict[str, float]:
        if not self._measures:
            return {}
        step = epoch * self._feed.steps_per_epoch
        (batches, _), *_ = self._feed.chunks(step, step + 1, 1)
        first = jax.tree.map(lambda x: x[0], batches)
        return {"eigenvalue": float(self._eigenvalue(state, *first))}

    def ended(self, history: list[dict[str, float]]) -> bool:
        """Whether the rule wants no further epoch."""
        if self._stopping is None:
            return False
        self.epoch = self._stopping.rule(self._records(history))
        return self.epoch is not None

    def _records(self, history: list[dict[str, float]]) -> list[Record]:
        mixes = tables(self._recorder.trajectory, "mix")
        for epoch in range(len(self._genotypes) + 1, len(history) + 1):
            mix = {name: array[epoch] for name, array in mixes.items()}
            self._genotypes.append(self._space.discretize(mix))
        return [
            Record(genotype, line.get("eigenvalue"))
            for genotype, line in zip(self._genotypes, history, strict=True)
        ]
