"""Published searches in several stages."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from dnas import selection
from dnas.gradient import relax
from dnas.presets.parts import make, mixing
from dnas.presets.preset import Preset
from dnas.presets.stages import Stage, keep_strongest
from dnas.space import SearchSpace


def p_darts(**changes) -> Preset:
    """P-DARTS (Chen et al., 2019): three stages, ever deeper, with ever fewer candidates.

    25 epochs a stage, 10 of them without alphas; 5, 11 and 17 cells where the space asks for 8, and
    in proportion to that else; 8, 5 and 3 of 8 candidates. Every stage starts anew, as in the
    published code. Dropout behind skip connections begins at 0, 0.4 and 0.7 in the three stages, as
    in the paper for CIFAR-10 (the program's manual says 0.1 for the first). It falls linearly
    while alphas wait; then it begins again, and falls by ``exp(-0.2)`` an epoch of 25. It falls
    with every step, where the program keeps it for an epoch: at the value that it has here at the
    epoch's end while alphas wait, and at its beginning afterwards. At the end normal cells keep two
    skip connections at most. Unlike there, alphas' gradients are not clipped: to a norm of 5, which
    Adam hardly notices.

    Compared: dropout rates with those of the program's 25 epochs, to 1e-6; the candidates and skip
    connections that it keeps, of random mixes, with the program's loops in NumPy, exactly.
    """

    def deepen(cells: int, keep: float | None):
        def change(base, before, mix):
            count = max(round(base.cells * cells / 8), min(base.cells, 3))
            space = base if keep is None else _shrink(base, before, mix, keep)
            return dataclasses.replace(space, cells=count)

        return change

    def stage(cells, keep, rate):
        return Stage(1 / 3, deepen(cells, keep), settings={"skip_dropout": _fading(rate)})

    parts = {
        "modify": mixing(),
        "selection": selection.limited_skips(2),
        "stages": (stage(5, None, 0.0), stage(11, 5 / 8, 0.4), stage(17, 3 / 5, 0.7)),
        "epochs": 75,
        "warmup": 0.4,
        "batch_size": 96,
        "final_learning_rate": 0.0,
        "alpha_learning_rate": 6e-4,
    }
    return make(parts, changes)


def _shrink(
    base: SearchSpace, before: SearchSpace, mix: Mapping[str, ArrayLike], share: float
) -> SearchSpace:
    """The space in which every edge keeps only its strongest candidates."""
    return base.restrict(keep_strongest(before, mix, share))


def _fading(rate: float) -> Callable[[int], optax.Schedule]:
    def schedule(steps: int) -> optax.Schedule:
        def value(step: jax.Array) -> jax.Array:
            passed = step / steps
            return rate * jnp.where(passed < 0.4, 1 - passed, jnp.exp(-5 * (passed - 0.4)))

        return value

    return schedule


def drnas(**changes) -> Preset:
    """DrNAS (Chen et al., 2021), progressive: a Dirichlet distribution, in two stages.

    The published code's numbers for NAS-Bench-201: 100 epochs, a quarter of the channels in the
    first half and half of them in the second, where 3 of 5 candidates are left; in the first 10
    epochs of each half alphas wait. What holds concentrations near one is alphas' decay of 0.001,
    the program's default; with `dnas.gradient.regularize.kl_anchor` and ``alpha_weight_decay=0`` it
    is the divergence that the program has as an option.

    Channels that a wider stage adds repeat the old ones in order, where the program draws them at
    random (see `dnas.nn.supernet.carry`), and alphas' Adam starts anew in the second stage. In the
    DARTS space the published numbers are others: a learning rate of 0.1 that ends at 0, 6e-4 for
    alphas, two stages of 25 epochs with a sixth and a quarter of the channels and 7 and 4
    candidates.

    Compared: samples with NumPy, and their gradients with SciPy's gamma distribution, for the same
    draws, to 1e-5 and 2e-3; candidates that are kept and weights that are widened, exactly.
    """

    def widen(base, before, mix):
        space = _shrink(base, before, mix, 3 / 5)
        return mixing(partial=2)(space)

    parts = {
        "relaxation": lambda steps: relax.dirichlet(),
        "modify": mixing(partial=4),
        "stages": (Stage(0.5), Stage(0.5, widen, goes_on=True)),
        "epochs": 100,
        "warmup": 0.2,
    }
    return make(parts, changes)
