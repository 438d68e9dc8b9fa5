"""Published searches in several stages."""

from dnas import schedules, selection
from dnas.gradient import relax
from dnas.parts import part
from dnas.presets.parts import mixing
from dnas.presets.preset import Preset, preset
from dnas.presets.stages import Stage, deepen, widen

__all__ = ["drnas", "p_darts"]


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

    def stage(cells: int, keep: float | None, rate: float) -> Stage:
        dropout = part(schedules.fading, rate=rate)
        settings = (("skip_dropout", dropout),)
        return Stage(1 / 3, part(deepen, cells=cells, keep=keep), settings=settings)

    parts = {
        "modify": part(mixing),
        "selection": part(selection.limited_skips, limit=2),
        "stages": (stage(5, None, 0.0), stage(11, 5 / 8, 0.4), stage(17, 3 / 5, 0.7)),
        "epochs": 75,
        "warmup": 0.4,
        "batch_size": 96,
        "final_learning_rate": 0.0,
        "alpha_learning_rate": 6e-4,
    }
    return preset(parts, changes)


def drnas(**changes) -> Preset:
    """DrNAS (Chen et al., 2021), progressive: a Dirichlet distribution, in two stages.

    The published code's numbers for NAS-Bench-201: 100 epochs, a quarter of the channels in the
    first half and half of them in the second, where 3 of 5 candidates are left; in the first 10
    epochs of each half alphas wait. What holds concentrations near one is alphas' decay of 0.001,
    the program's default; with `dnas.gradient.regularize.kl_anchor` and ``alpha_weight_decay=0`` it
    is the divergence that the program has as an option.

    Channels that a wider stage adds repeat the old ones in order, where the program draws them at
    random (see `dnas.nn.supernet.inherit`). Alphas' Adam starts anew in the second stage. In the
    DARTS space the published numbers are others: a learning rate of 0.1 that ends at 0, 6e-4 for
    alphas, two stages of 25 epochs with a sixth and a quarter of the channels and 7 and 4
    candidates.

    Compared: samples with NumPy, and their gradients with SciPy's gamma distribution, for the same
    draws, to 1e-5 and 2e-3; candidates that are kept and weights that are widened, exactly.
    """
    parts = {
        "relaxation": part(relax.dirichlet),
        "modify": part(mixing, partial=4),
        "stages": (Stage(0.5), Stage(0.5, part(widen, partial=2, keep=3 / 5), goes_on=True)),
        "epochs": 100,
        "warmup": 0.2,
    }
    return preset(parts, changes)
