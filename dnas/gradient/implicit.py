"""Hypergradients by the implicit function theorem.

Where the weights are at a minimum of the training loss, ``dL_train/dw = 0`` says how the minimum
moves with alphas (Lorraine et al., 2020, theorem 1), and the hypergradient is

    dL_valid/dalphas - v' d2L_train/dw dalphas    with    H v = dL_valid/dw,

``H`` being the Hessian of the training loss in the weights. It does not depend on the way that led
to the weights, so that neither the optimizer nor its number of steps matters. The two estimates
differ in how they solve for ``v``; both only take products with ``H``, of which one is compiled.

The weights of a search are no minimum, and its loss is that of one batch. Weight decay is part of
the optimizer here and not of the loss: where it should count, `damping` takes its place.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dnas import checks
from dnas.gradient.hypergrad import Hypergradient, Params, exact_product, gradients

# (product with the Hessian, dL_valid/dw) -> v
Solve = Callable[[Callable[[Params], Params], Params], Params]


def neumann(terms: int = 3, learning_rate: float = 0.01) -> Hypergradient:
    """A truncated Neumann series for the inverse Hessian (Lorraine et al., 2020, algorithm 3).

    ``v = learning_rate * sum over k < terms of (I - learning_rate * H)^k dL_valid/dw``: what SGD
    without momentum would make of so many steps around the minimum. The series converges to the
    inverse for learning rates below ``2 / |H|`` where ``H`` is positive definite; its head is
    well-behaved where ``H`` is not.

    iDARTS (Zhang et al., 2021) takes this estimate on single batches, after several steps of the
    weights for each step of alphas: see `dnas.gradient.bilevel`. Terms count from one: one term is
    ``k = 0`` alone and takes no product with the Hessian. The defaults are those of the authors'
    program, where the learning rate begins at 0.01.

    Args:
      terms: terms of the series; each after the first costs a product with the Hessian.
      learning_rate: of the series; it need not be that of the weights.
    """
    checks.whole("terms", terms)
    checks.positive("learning_rate", learning_rate)

    def solve(product, target):
        def add(_, carry):
            term, total = carry
            term = jax.tree.map(lambda t, h: t - learning_rate * h, term, product(term))
            return term, optax.tree.add(total, term)

        _, total = lax.fori_loop(1, terms, add, (target, target))
        return optax.tree.scale(learning_rate, total)

    return _implicit(solve)


def conjugate_gradient(iterations: int = 10, damping: float = 1e-3) -> Hypergradient:
    """Conjugate gradients on ``(H + damping * I) v = dL_valid/dw`` (Pedregosa, 2016).

    Iterations end early where the damped Hessian shows a direction that does not curve upwards,
    as it may away from a minimum, with the solution so far (Steihaug, 1983): at worst the result
    is that of `dnas.gradient.hypergrad.first_order`.

    Args:
      iterations: at most so many products with the Hessian.
      damping: added to the Hessian's diagonal. In an objective with weight decay it is the decay.
    """
    checks.whole("iterations", iterations)
    checks.not_negative("damping", damping)

    def solve(product, target):
        def improve(_, carry):
            solution, residual, direction, norm = carry
            image = jax.tree.map(lambda h, d: h + damping * d, product(direction), direction)
            curvature = jnp.asarray(optax.tree.vdot(direction, image))
            upwards = curvature > 0
            step = jnp.where(upwards, norm / jnp.where(upwards, curvature, 1.0), 0.0)
            solution = optax.tree.add_scale(solution, step, direction)
            # Without a residual left, all that follows are zeros.
            residual = jax.tree.map(
                lambda r, i: jnp.where(upwards, r - step * i, jnp.zeros_like(r)), residual, image
            )
            new_norm = optax.tree.vdot(residual, residual)
            ratio = jnp.where(norm > 0, new_norm / jnp.where(norm > 0, norm, 1.0), 0.0)
            return solution, residual, optax.tree.add_scale(residual, ratio, direction), new_norm

        start = optax.tree.zeros_like(target), target, target, optax.tree.vdot(target, target)
        return lax.fori_loop(0, iterations, improve, start)[0]

    return _implicit(solve)


def _implicit(solve: Solve) -> Hypergradient:
    def estimate(problem, params, opt_state, alphas):
        del opt_state
        both, auxiliary = gradients(problem.valid_loss, has_aux=True)(params, alphas)
        in_params, direct = both

        def product(direction):
            mixed = exact_product(problem.train_loss, params, alphas, direction, True)
            return problem.mean(mixed[0])

        solution = solve(product, problem.mean(in_params))
        indirect = exact_product(problem.train_loss, params, alphas, solution, False)[1]
        return problem.mean(optax.tree.sub(direct, indirect)), auxiliary

    return estimate
