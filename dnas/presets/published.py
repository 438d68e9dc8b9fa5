"""The published searches by name.

The numbers are those of the papers or, where a docstring says so, of the authors' programs; those
that a paper leaves open are DARTS'. Every factory takes other values for the attributes of
`Preset` as keywords: ``darts(epochs=15, alpha_learning_rate=3e-3)``.

All of them split the training examples into halves, and all but two search on both: `single_level`
and `snas` train alphas with the weights, on the weights' half.

What docstrings say was compared is compared in ``tests/parity``. There, three steps of both
optimizers of every preset, one of them clipped, are PyTorch's formulas in NumPy, to 1e-5.
"""

from dnas import selection
from dnas.gradient import (
    freeze,
    hypergrad,
    implicit,
    perturb,
    regularize,
    relax,
    stopping,
)
from dnas.parts import linear, part
from dnas.presets.parts import align_weights, mixing, skip_count, without_zeros
from dnas.presets.preset import Preset, preset

__all__ = [
    "beta_darts",
    "darts",
    "darts_minus",
    "darts_plus",
    "darts_pt",
    "darts_second_order",
    "fair_darts",
    "gdas",
    "i_darts",
    "lambda_darts",
    "oles",
    "pc_darts",
    "r_darts",
    "random_weight_sharing",
    "sdarts_adv",
    "sdarts_rs",
    "single_level",
    "snas",
]


def darts(order: int = 1, **changes) -> Preset:
    """DARTS, of first or second order (Liu, Simonyan and Yang, 2019).

    Compared: the softmax and its gradient with NumPy, to 1e-5.

    Args:
      order: 1 takes the present weights for the best ones, 2 differentiates through a step.
      **changes: other values for the attributes of `Preset`.

    Raises:
      ValueError: `order` is neither.
    """
    orders = {1: hypergrad.first_order, 2: hypergrad.unrolled}
    if order not in orders:
        raise ValueError(f"order={order!r}: expected 1 or 2")
    return preset({"hypergradient": part(orders[order])}, changes)


def darts_second_order(**changes) -> Preset:
    """`darts` of second order, exact instead of by finite differences.

    The step that is differentiated is the weights' real one, with its clipping, which the published
    code leaves out there. The choice matters: see `dnas.gradient.hypergrad.finite_difference` for
    how far the published estimate and the first order are from this one.

    Compared: the gradient in alphas of a quadratic problem, through momentum and decay, with its
    closed form, to 1e-4; through an active clipping, to 1e-3.
    """
    return darts(2, **changes)


def snas(**changes) -> Preset:
    """SNAS (Xie et al., 2019): samples of a concrete distribution, weights and alphas together.

    The authors' program: 150 epochs, the temperature falling linearly from 1 to 0.03, initial
    alphas of deviation 0.01, the weights' learning rate down to 0.001. (Its Adam for alphas has
    DARTS' numbers, in the variant for several devices; the other one takes SGD. Its alphas begin
    around one, which makes no difference to their softmax.) Its temperature falls only with a flag,
    which its manual sets; its batches are of 64 images (of 96 in the program of its analyses), as
    here; and it clips alphas' gradient to a norm of 10, which is not so here. Left out are the
    resource constraint (see `dnas.gradient.regularize.expected_cost`), the dropping of paths with a
    probability of 0.3, and the architectures that keep all edges: the space's rule decides here.

    Compared: samples and their gradients at three temperatures with NumPy, for the same noise, to
    1e-4 and 1e-3.
    """
    parts = {
        "relaxation": part(relax.gumbel_softmax, temperature=linear(1.0, 0.03), hard=False),
        "hypergradient": part(hypergrad.joint),
        "epochs": 150,
        "alpha_scale": 0.01,
    }
    return preset(parts, changes)


def gdas(**changes) -> Preset:
    """GDAS (Dong and Yang, 2019): one sampled operation on each edge, straight through.

    250 epochs, the temperature falling linearly from 10 to 0.1, and a weight decay of 5e-4, as in
    the authors' program for NASNet's space, which has batches of 256 (240 epochs, batches of 64 for
    NAS-Bench-201); its momentum is Nesterov's. Only the sampled operations are computed where
    the space offers single paths; the others get no gradient then, where that program's gradient
    takes them for the constant one.

    Compared: the sampled operations at three temperatures with NumPy, for the same noise, exactly,
    and the gradients of their weights to 1e-3.
    """
    parts = {
        "relaxation": part(relax.gumbel_softmax, temperature=linear(10.0, 0.1), hard=True),
        "modify": part(mixing, single_path=True, optional=True),
        "epochs": 250,
        "weight_decay": 5e-4,
    }
    return preset(parts, changes)


def pc_darts(**changes) -> Preset:
    """PC-DARTS (Xu et al., 2020): a quarter of the channels, normalised edges.

    Batches of 256 at a learning rate of 0.1, which ends at 0 (at 0.001 in a version of the authors'
    program), 15 of 50 epochs without alphas. Every edge's channels must divide by 4 (by 8 in
    the DARTS space).

    Compared: a cell with its partial channels, shuffles, bypasses and edge weights, at both
    strides, with NumPy, to 1e-5.
    """
    parts = {
        "modify": part(mixing, partial=4, edge_normalization=True),
        "warmup": 0.3,
        "batch_size": 256,
        "learning_rate": 0.1,
        "final_learning_rate": 0.0,
        "alpha_learning_rate": 6e-4,
    }
    return preset(parts, changes)


def fair_darts(**changes) -> Preset:
    """FairDARTS (Chu et al., 2020): sigmoids, driven to zero or one.

    Batches of 128, learning rates of 0.005 and of 0.003 for alphas, with Adam's usual betas, and
    alphas that begin at zero, as in the published code. It searches without ``none``, seven
    candidates in DARTS: the weight of that would stay at 0.5, where the zero-one loss has no slope,
    and be the strongest wherever all others fall below. Published architectures leave out
    the operations of a weight below 0.85, so that nodes have two edges, one or none. The spaces
    here know no such cells, and keep the strongest as they do for other methods.

    Compared: sigmoids and their gradient, and that of the zero-one loss in the DARTS space, with
    NumPy, to 1e-5.
    """
    parts = {
        "modify": part(without_zeros),
        "relaxation": part(relax.sigmoid),
        "regularizers": (part(regularize.zero_one, weight=10.0),),
        "batch_size": 128,
        "learning_rate": 0.005,
        "alpha_learning_rate": 3e-3,
        "alpha_betas": (0.9, 0.999),
        "alpha_scale": 0.0,
    }
    return preset(parts, changes)


def darts_minus(**changes) -> Preset:
    """DARTS- (Chu et al., 2021): an auxiliary skip connection, fading linearly from 1 to 0.

    Compared: a cell with its auxiliary skips at a weight of 0.7 with NumPy, to 1e-5.
    """
    parts = {
        "modify": part(mixing, auxiliary_skip=True),
        "auxiliary_skip": linear(1.0, 0.0),
    }
    return preset(parts, changes)


def sdarts_rs(**changes) -> Preset:
    """SDARTS-RS (Chen and Hsieh, 2020): weights train at randomly perturbed mixes.

    The radius grows linearly from 0.03 to 0.3, as in the published code.

    Compared: the perturbed mix with NumPy, for the same noise, to 1e-4.
    """
    parts = {"perturbation": part(perturb.random_smoothing, radius=linear(0.03, 0.3))}
    return preset(parts, changes)


def sdarts_adv(**changes) -> Preset:
    """SDARTS-ADV (Chen and Hsieh, 2020): weights train at the worst mixes nearby.

    The radius grows linearly from 0.03 to 0.3, as in the published code, and the ascent takes 7
    steps: nine gradients and two losses a step of the search, where DARTS takes two gradients.

    Compared: the perturbed mix with NumPy, for the same start and a loss in closed form, to 1e-4.
    """
    parts = {"perturbation": part(perturb.adversarial, radius=linear(0.03, 0.3))}
    return preset(parts, changes)


def r_darts(**changes) -> Preset:
    """R-DARTS (Zela et al., 2020): more weight decay, and an end when the curvature grows.

    Published are DARTS-ES, which only stops early, and R-DARTS (L2), the best of four searches with
    weight decays of 3e-4, 9e-4, 27e-4 and 81e-4, which are told apart by training what they found.
    This is one search, with 27e-4 and the rule of DARTS-ES: four searches, and what comes after,
    are for the caller to run. The authors' scripts search with the second order, here it is the
    first (take ``hypergradient=dnas.gradient.hypergrad.unrolled()``).

    Compared: eigenvalues on a small supernet over six epochs with those of dense Hessians of a
    plain one, to 2e-3; the epochs at which the rule ends with NumPy, exactly.
    """
    parts = {
        "weight_decay": 27e-4,
        "stopping": part(stopping.eigenvalue_ratio),
    }
    return preset(parts, changes)


def darts_plus(**changes) -> Preset:
    """DARTS+ (Liang et al., 2019): ends with two skip connections in a normal cell.

    Compared: the epoch at which it ends, over random numbers of skip connections, exactly.
    """
    return preset({"stopping": part(skip_count, limit=2)}, changes)


def darts_pt(**changes) -> Preset:
    """DARTS-PT (Wang et al., 2021): first-order DARTS, and what its supernet misses most.

    5 epochs of fine-tuning between decisions, at a tenth of the learning rate (see
    `Preset.finetuning`). Options are validated on 1000 images here, on all of
    alphas' half in the published code, which searches for 100 epochs in NAS-Bench-201.

    Compared: every decision on a small supernet with a plain one, exactly; the losses that lead to
    it to 1e-3.
    """
    return preset({"selection": part(selection.perturbation, epochs=5.0)}, changes)


def beta_darts(**changes) -> Preset:
    """Beta-DARTS (Ye et al., 2022): decay of the mixing weights.

    The published code's numbers for NAS-Bench-201: 100 epochs, the weight of the decay growing
    linearly from 0 to 50.

    Compared: the decay's gradient with NumPy, at three steps, to 1e-5.
    """
    parts = {
        "regularizers": (part(regularize.beta_decay, weight=linear(0.0, 50.0)),),
        "epochs": 100,
    }
    return preset(parts, changes)


def lambda_darts(**changes) -> Preset:
    """Lambda-DARTS (Movahedi et al., 2023): weights for which the cells agree on alphas.

    The weight of the alignment grows linearly from 0 to 0.25 in 100 epochs, and alphas learn at
    1e-4, as in the published script for NAS-Bench-201; the programs' own default is 0.125. All
    kinds of cells are aligned.

    Compared: the alignment and the direction of its gradient with the program's formula in NumPy,
    to 1e-5; a whole step of a small supernet's weights with the derivative of the regularised loss
    of a plain one, to 2e-3 of its norm.
    """
    parts = {
        "weight_penalty": part(align_weights, weight=linear(0.0, 0.25)),
        "epochs": 100,
        "alpha_learning_rate": 1e-4,
    }
    return preset(parts, changes)


def i_darts(**changes) -> Preset:
    """The implicit gradient of iDARTS (Zhang et al., 2021), by a truncated Neumann series.

    The authors' program for NAS-Bench-201: three terms (K = 2, which counts the products with the
    Hessian), four steps of the weights for each of alphas, a learning rate of 0.01 for the weights
    and the series, a weight decay of 5e-4. What it calls an epoch, of which it has 30, takes all
    alphas' images and so four passes over the weights' half: 120 epochs here. Its momentum is
    Nesterov's, the series follows the weights' learning rate down, and after every step of
    alphas the weights are left a little displaced, as noise; none of it is so here. The mixed
    product is exact, where that program takes central differences. The authors' notebook
    takes its inner steps with a copy of the optimizer, which moves nothing; this follows the paper,
    where they move the weights.

    Compared: the gradient in alphas of a quadratic problem with its closed form, to 1e-5.
    """
    parts = {
        "hypergradient": part(implicit.neumann, terms=3, learning_rate=0.01),
        "alpha_interval": 4,
        "epochs": 120,
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
    }
    return preset(parts, changes)


def oles(**changes) -> Preset:
    """OLES (Jiang et al., 2023): first-order DARTS that stops training single operations.

    The rule is that of the authors' program, whose threshold of 0.4 compares the training gradient
    with the sum of training and validation gradient; for the paper's formula see
    `dnas.gradient.freeze.oles`. The result are the last alphas; the authors' program keeps those of
    the epoch that validates best. Frozen weights stand still; there, they get no gradient.

    Compared: the cosines of all operations, edges and cells of two small supernets with NumPy, to
    1e-5; the decisions on hand-made gradients, exactly.
    """
    return preset({"freeze": part(freeze.oles)}, changes)


def single_level(**changes) -> Preset:
    """A control: alphas train on the examples of the weights (Liu et al., 2019, section 3).

    Compared: the gradient in alphas of a quadratic problem with its closed form, to 1e-5.
    """
    return preset({"hypergradient": part(hypergrad.joint)}, changes)


def random_weight_sharing(**changes) -> Preset:
    """A control: random search with weight sharing (Li and Talwalkar, 2019).

    Every step trains a uniformly random architecture. At the end, 1000 random ones are validated
    with the shared weights, and the best is the result. (Published programs do this several times,
    with a batch for each, and validate the ten best again.) Epochs and batches are DARTS' here.

    Compared: the shares of the operations in 4,000 drawn rows, to 0.025.
    """
    parts = {
        "relaxation": part(relax.uniform_sample),
        "hypergradient": part(hypergrad.frozen),
        "modify": part(mixing, single_path=True, optional=True),
        "selection": part(selection.best_of_samples, count=1000),
        "alpha_weight_decay": 0.0,
        "alpha_scale": 0.0,
    }
    return preset(parts, changes)
