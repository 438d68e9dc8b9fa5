"""Hypergradients: the gradient of the validation loss in alphas, through the weights.

The search minimises ``L_valid(w*(alphas), alphas)`` where ``w*`` minimises ``L_train(w, alphas)``
(Liu et al., 2019, equations 3-4). The estimates differ in what they put for ``w*``: the present
weights (`first_order`), or the weights after some steps of the weight optimizer, differentiated
exactly (`unrolled`) or by central differences (`finite_difference`). `dnas.gradient.implicit`
differentiates the condition that ``w*`` is a minimum. Two controls estimate nothing: `joint` and
`frozen`.

Everything is written for one replica of a data-parallel program: `Problem.mean` averages over
replicas, and is the identity where there is only one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dnas import checks
from dnas.space import Alphas

Params = Any


class Problem(NamedTuple):
    """One bilevel problem on one pair of batches.

    Attributes:
      train_loss: ``(params, alphas) -> loss`` on the training batch.
      valid_loss: ``(params, alphas) -> (loss, auxiliary)`` on the validation batch.
      optimizer: the weight optimizer.
      mean: averages a pytree over replicas.
      step: number of the search's step, traced; for schedules.
    """

    train_loss: Callable[[Params, Alphas], jax.Array]
    valid_loss: Callable[[Params, Alphas], tuple[jax.Array, Any]]
    optimizer: optax.GradientTransformation
    mean: Callable[[Any], Any] = lambda tree: tree
    step: jax.Array | int = 0


# (problem, params, opt_state, alphas) -> (gradient in alphas, auxiliary of the validation loss)
Hypergradient = Callable[[Problem, Params, optax.OptState, Alphas], tuple[Alphas, Any]]

# (train_loss, params, alphas, direction, in_params) -> gradients, in params and alphas, of the
# directional derivative of the training loss in params; that in params is zero unless asked for.
Product = Callable[[Callable, Params, Alphas, Params, bool], tuple[Params, Alphas]]


def gradients(loss: Callable, has_aux: bool = False) -> Callable:
    """The gradients of a loss in its first two arguments, weights and architecture.

    Who wants one of them takes this, too: JAX keeps the derivative of a jitted loss for the same
    arguments only, so that hypergradients and the step of the weights, which all ask in this way,
    trace it once. XLA computes what is taken.

    Args:
      loss: ``(params, alphas or mix) -> loss``.
      has_aux: whether it returns ``(loss, auxiliary)``.
    """
    return jax.grad(loss, (0, 1), has_aux=has_aux)


def first_order() -> Hypergradient:
    """Takes the present weights for the best ones (Liu et al., 2019, section 2.3, xi = 0).

    `finite_difference` says how far it is from the exact gradient of second order.
    """

    def estimate(problem, params, opt_state, alphas):
        del opt_state
        (_, gradient), auxiliary = gradients(problem.valid_loss, has_aux=True)(params, alphas)
        return problem.mean(gradient), auxiliary

    return estimate


def joint() -> Hypergradient:
    """The gradient of the training loss: alphas are trained as weights are, on their batch.

    The single-level optimisation that Liu et al. (2019, section 3) compare with. Alphas move first
    and the weights at the new ones, as everywhere in this library; published programs take both
    gradients at the old. The validation loss is only computed for its auxiliary.
    """

    def estimate(problem, params, opt_state, alphas):
        del opt_state
        _, gradient = gradients(problem.train_loss)(params, alphas)
        return problem.mean(gradient), problem.valid_loss(params, alphas)[1]

    return estimate


def frozen() -> Hypergradient:
    """Zeros: alphas stay as they are, unless their optimizer decays them.

    For controls, such as random search with weight sharing (Li and Talwalkar, 2019).
    """

    def estimate(problem, params, opt_state, alphas):
        del opt_state
        return jax.tree.map(jnp.zeros_like, alphas), problem.valid_loss(params, alphas)[1]

    return estimate


def unrolled(steps: int = 1) -> Hypergradient:
    """Differentiates exactly through steps of the weight optimizer (Liu et al., 2019, eq. 6-7).

    The optimizer is the real one, with its momentum, decay and clipping. The second-order
    terms come from reverse-over-forward differentiation: the gradient of a directional
    derivative, of which the first inner step only needs the part in alphas.

    Args:
      steps: inner steps, all on the training batch.
    """
    return _lookahead(steps, exact_product)


def finite_difference(radius: float = 0.01) -> Hypergradient:
    """As `unrolled` with one step, with central differences (Liu et al., 2019, equation 8).

    For comparison with published results: `unrolled` costs no more and is exact. In networks
    with ReLUs the two differ, since a step of the published radius crosses kinks. On a supernet of
    DARTS at published settings this estimate was 0.59 to 0.92 of the exact gradient's norm away
    from it, and `first_order` 0.31 to 0.71. The step is smaller than what bfloat16
    resolves: search in float32 with it.

    Args:
      radius: length of the step in weight space to either side; published as 0.01.
    """
    checks.positive("radius", radius)

    def product(train_loss, params, alphas, direction, in_params):
        del in_params  # only one inner step: never asked for
        norm = optax.tree.norm(direction)
        epsilon = radius / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)

        def at(sign):
            moved = jax.tree.map(lambda p, d: p + sign * epsilon * d, params, direction)
            return gradients(train_loss)(moved, alphas)[1]

        difference = jax.tree.map(lambda a, b: (a - b) / (2 * epsilon), at(1), at(-1))
        return jax.tree.map(jnp.zeros_like, params), difference

    return _lookahead(1, product)


def exact_product(
    train_loss: Callable[[Params, Alphas], jax.Array],
    params: Params,
    alphas: Alphas,
    direction: Params,
    in_params: bool,
) -> tuple[Params, Alphas]:
    """A `Product` by reverse-over-forward differentiation: about two gradients' work and memory."""

    def derivative(params, alphas):
        return jax.jvp(lambda p: train_loss(p, alphas), (params,), (direction,))[1]

    if in_params:
        return jax.grad(derivative, (0, 1))(params, alphas)
    return jax.tree.map(jnp.zeros_like, params), jax.grad(derivative, 1)(params, alphas)


def _lookahead(steps: int, product: Product) -> Hypergradient:
    checks.whole(
        "steps", steps, most=100, reason="since each is compiled and kept for the gradient"
    )

    def estimate(problem, params, opt_state, alphas):
        def weight_gradient(params, alphas, in_params):
            gradient = _mean_gradient(problem, product, in_params)
            return gradient(params, alphas)

        def loss(alphas):
            weights, state = params, opt_state
            for step in range(steps):
                gradient = weight_gradient(weights, alphas, step > 0)
                updates, state = problem.optimizer.update(gradient, state, weights)
                weights = optax.apply_updates(weights, updates)
            return problem.valid_loss(weights, alphas)

        gradient, auxiliary = jax.grad(loss, has_aux=True)(alphas)
        return problem.mean(gradient), auxiliary

    return estimate


def _mean_gradient(problem: Problem, product: Product, in_params: bool):
    """The training gradient, averaged over replicas, with `product` as its derivative.

    The loss to differentiate is the mean of the replicas' losses, and every replica carries
    its share of a cotangent: the shares are averaged where they meet the averaged gradient.
    """

    @jax.custom_vjp
    def gradient(params, alphas):
        return problem.mean(gradients(problem.train_loss)(params, alphas)[0])

    def forward(params, alphas):
        return gradient(params, alphas), (params, alphas)

    def backward(residuals, cotangent):
        params, alphas = residuals
        return product(problem.train_loss, params, alphas, problem.mean(cotangent), in_params)

    gradient.defvjp(forward, backward)
    return gradient
