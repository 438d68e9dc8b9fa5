"""The published searches by name.

The numbers are those of the papers or, where a docstring says so, of the authors' programs; those
that a paper leaves open are DARTS'. Every factory takes other values for the attributes of
`Preset` as keywords: ``darts(epochs=15, alpha_learning_rate=3e-3)``.

All of them split the training images into halves, and all but two search on both: `single_level`
and `snas` train alphas with the weights, on the weights' half.
"""

import optax

from dnas import (
    alignment,
    freeze,
    hypergrad,
    implicit,
    perturb,
    regularize,
    relax,
    selection,
    stopping,
)
from dnas.presets.parts import linear, make, mixing
from dnas.presets.preset import Preset
from dnas.space import SearchSpace


def darts(order: int = 1, **changes) -> Preset:
    """DARTS, of first or second order (Liu, Simonyan and Yang, 2019).

    Args:
      order: 1 takes the present weights for the best ones, 2 differentiates through a step.
      **changes: other values for the attributes of `Preset`.

    Raises:
      ValueError: `order` is neither.
    """
    orders = {1: hypergrad.first_order, 2: hypergrad.unrolled}
    if order not in orders:
        raise ValueError(f"order={order!r}: expected 1 or 2")
    return make({"hypergradient": orders[order]()}, changes)


def darts_second_order(**changes) -> Preset:
    """`darts` of second order, exact instead of by finite differences."""
    return darts(2, **changes)


def snas(**changes) -> Preset:
    """SNAS (Xie et al., 2019): samples of a concrete distribution, weights and alphas together.

    150 epochs and the learning rate of the weights down to 0, as in the paper. The ends of the
    temperature's decay, 1 and 0.03, are from memory; here it decays exponentially. The
    resource constraint is left out; see `dnas.regularize.expected_cost`.
    """

    def relaxation(steps):
        decay = (0.03 / 1.0) ** (1 / max(steps - 1, 1))
        return relax.gumbel_softmax(optax.exponential_decay(1.0, 1, decay), hard=False)

    parts = {
        "relaxation": relaxation,
        "hypergradient": hypergrad.joint(),
        "epochs": 150,
        "final_learning_rate": 0.0,
    }
    return make(parts, changes)


def gdas(**changes) -> Preset:
    """GDAS (Dong and Yang, 2019): one sampled operation on each edge, straight through.

    250 epochs, the temperature falling linearly from 10 to 0.1. Only the sampled operations are
    computed where the space offers single paths.
    """
    parts = {
        "relaxation": lambda steps: relax.gumbel_softmax(linear(10.0, 0.1)(steps), hard=True),
        "modify": mixing(optional=True, single_path=True),
        "epochs": 250,
    }
    return make(parts, changes)


def pc_darts(**changes) -> Preset:
    """PC-DARTS (Xu et al., 2020): a quarter of the channels, normalised edges.

    Batches of 256 at a learning rate of 0.1, 15 of 50 epochs without alphas. Every edge's channels
    must divide by 4 (by 8 in the DARTS space).
    """
    parts = {
        "modify": mixing(partial=4, edge_normalization=True),
        "warmup": 0.3,
        "batch_size": 256,
        "learning_rate": 0.1,
        "final_learning_rate": 0.0,
        "alpha_learning_rate": 6e-4,
    }
    return make(parts, changes)


def fair_darts(**changes) -> Preset:
    """FairDARTS (Chu et al., 2020): sigmoids, driven to zero or one.

    Batches of 128, learning rates of 0.005 and of 0.003 for alphas, with Adam's usual betas, as in
    the published code. Architectures come out as the space has it, not by a threshold of 0.85.
    """
    parts = {
        "relaxation": lambda steps: relax.sigmoid(),
        "regularizers": lambda steps, space: (regularize.zero_one(10.0),),
        "batch_size": 128,
        "learning_rate": 0.005,
        "alpha_learning_rate": 3e-3,
        "alpha_betas": (0.9, 0.999),
    }
    return make(parts, changes)


def darts_minus(**changes) -> Preset:
    """DARTS- (Chu et al., 2021): an auxiliary skip connection, fading linearly from 1 to 0."""
    parts = {
        "modify": mixing(auxiliary_skip=True),
        "auxiliary_skip": linear(1.0, 0.0),
    }
    return make(parts, changes)


def sdarts_rs(**changes) -> Preset:
    """SDARTS-RS (Chen and Hsieh, 2020): weights train at randomly perturbed mixes.

    The radius grows linearly from 0.03 to 0.3, as in the published code.
    """
    parts = {"perturbation": lambda steps: perturb.random_smoothing(linear(0.03, 0.3)(steps))}
    return make(parts, changes)


def sdarts_adv(**changes) -> Preset:
    """SDARTS-ADV (Chen and Hsieh, 2020): weights train at the worst mixes nearby.

    The radius grows linearly from 0.03 to 0.3, as in the published code, and the ascent takes 7
    steps: ten gradients a step of the search, where DARTS takes two.
    """
    parts = {"perturbation": lambda steps: perturb.adversarial(linear(0.03, 0.3)(steps))}
    return make(parts, changes)


def r_darts(**changes) -> Preset:
    """R-DARTS (Zela et al., 2020): more weight decay, and an end when the curvature grows.

    Published are DARTS-ES, which only stops early, and R-DARTS (L2), the best of four searches with
    weight decays of 3e-4, 9e-4, 27e-4 and 81e-4. This is one search, with 27e-4 and the rule of
    DARTS-ES.
    """
    parts = {
        "weight_decay": 27e-4,
        "stopping": lambda space: stopping.eigenvalue_ratio(),
    }
    return make(parts, changes)


def darts_plus(**changes) -> Preset:
    """DARTS+ (Liang et al., 2019): ends with two skip connections in a normal cell."""
    parts = {"stopping": lambda space: stopping.skip_count(2, part=_first_part(space))}
    return make(parts, changes)


def _first_part(space: SearchSpace) -> str:
    return next(iter(space.decisions)).split(".")[0]


def darts_pt(**changes) -> Preset:
    """DARTS-PT (Wang et al., 2021): first-order DARTS, and what its supernet misses most.

    5 epochs of fine-tuning between decisions.
    """
    return make({"selection": selection.perturbation(5.0)}, changes)


def beta_darts(**changes) -> Preset:
    """Beta-DARTS (Ye et al., 2022): decay of the mixing weights.

    The published code's numbers for NAS-Bench-201: 100 epochs, the weight of the decay growing
    linearly from 0 to 50.
    """
    parts = {
        "regularizers": lambda steps, space: (regularize.beta_decay(linear(0.0, 50.0)(steps)),),
        "epochs": 100,
    }
    return make(parts, changes)


def lambda_darts(**changes) -> Preset:
    """Lambda-DARTS (Movahedi et al., 2023): weights for which the cells agree on alphas.

    The weight of the alignment grows linearly from 0 to 0.125, and alphas learn at 1e-4, as in
    the published code for NAS-Bench-201; 100 epochs there. All kinds of cells are aligned.
    """

    def penalty(steps, space):
        return alignment.align_weights(linear(0.0, 0.125)(steps), space.layers)

    return make({"weight_penalty": penalty, "epochs": 100, "alpha_learning_rate": 1e-4}, changes)


def i_darts(**changes) -> Preset:
    """The implicit gradient of iDARTS (Zhang et al., 2021), by a truncated Neumann series.

    Weights and alphas take turns here, one step each; published are several steps of the
    weights. The number of terms is a guess.
    """
    return make({"hypergradient": implicit.neumann()}, changes)


def oles(**changes) -> Preset:
    """OLES (Jiang et al., 2023): first-order DARTS that stops training single operations."""
    return make({"freeze": freeze.oles()}, changes)


def single_level(**changes) -> Preset:
    """A control: alphas train on the images of the weights (Liu et al., 2019, section 3)."""
    return make({"hypergradient": hypergrad.joint()}, changes)


def random_weight_sharing(**changes) -> Preset:
    """A control: random search with weight sharing (Li and Talwalkar, 2019).

    Every step trains a uniformly random architecture. At the end, 1000 random ones are validated
    with the shared weights, and the best is the result. Epochs and batches are DARTS' here.
    """
    parts = {
        "relaxation": lambda steps: relax.uniform_sample(),
        "hypergradient": hypergrad.frozen(),
        "modify": mixing(optional=True, single_path=True),
        "selection": selection.best_of_samples(1000),
        "alpha_weight_decay": 0.0,
        "alpha_scale": 0.0,
    }
    return make(parts, changes)


def dnas(**changes) -> Preset:
    """The default: softmax, beta decay, and the best of samples by the shared weights."""
    parts = {
        "regularizers": lambda steps, space: (regularize.beta_decay(linear(0.0, 5.0)(steps)),),
        "warmup": 0.2,
        "alpha_learning_rate": 3e-3,
        "selection": selection.best_of_samples(100),
    }
    return make(parts, changes)
