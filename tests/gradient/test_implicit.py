"""Implicit hypergradients against closed forms and dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from dnas import spaces
from dnas.gradient import hypergrad, implicit, skeleton
from dnas.space import initial_alphas
from dnas.tasks import Classification

SIZE = 5


def quadratic(seed=0):
    """``L_train = w' H w / 2 - w' B a`` and ``L_valid = |w - c|^2 / 2 + d' a``."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(SIZE, SIZE))
    h, b = root @ root.T / SIZE + np.eye(SIZE), rng.normal(size=(SIZE, 3))
    return h, b, rng.normal(size=SIZE), rng.normal(size=3), rng.normal(size=SIZE)


def as_problem(h, b, c, d):
    def train_loss(params, alphas):
        w = jnp.concatenate([params["head"], params["tail"]])
        return w @ h @ w / 2 - w @ b @ alphas["t"]

    def valid_loss(params, alphas):
        w = jnp.concatenate([params["head"], params["tail"]])
        return jnp.square(w - c).sum() / 2 + d @ alphas["t"], "auxiliary"

    return hypergrad.Problem(train_loss, valid_loss, optax.sgd(1.0))


def as_params(w):
    return {"head": jnp.asarray(w[:2]), "tail": jnp.asarray(w[2:])}


def solve(method, h, b, c, d, w):
    """`v` is solved for with `method`; alphas do not matter for its gradient."""
    problem = as_problem(*map(jnp.asarray, (h, b, c, d)))
    gradient, auxiliary = method(problem, as_params(w), None, {"t": jnp.ones(3)})
    assert auxiliary == "auxiliary"
    return gradient["t"]


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("iterations", [SIZE, 40])
def test_conjugate_gradient_solves_the_quadratic(damping, iterations):
    """In as many iterations as there are weights; more of them change nothing."""
    h, b, c, d, w = quadratic()
    method = implicit.conjugate_gradient(iterations, damping)
    expected = d + b.T @ np.linalg.solve(h + damping * np.eye(SIZE), w - c)
    np.testing.assert_allclose(solve(method, h, b, c, d, w), expected, rtol=1e-3, atol=1e-4)


def test_fewer_iterations_minimise_over_krylov_spaces():
    h, b, c, d, w = quadratic()
    krylov = np.stack([np.linalg.matrix_power(h, k) @ (w - c) for k in range(2)], 1)
    v = krylov @ np.linalg.solve(krylov.T @ h @ krylov, krylov.T @ (w - c))
    found = solve(implicit.conjugate_gradient(2, 0.0), h, b, c, d, w)
    np.testing.assert_allclose(found, d + b.T @ v, rtol=1e-4)


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_truncated_series(terms):
    h, b, c, d, w = quadratic(1)
    rate = 0.3
    step = np.eye(SIZE) - rate * h
    v = rate * sum(np.linalg.matrix_power(step, k) @ (w - c) for k in range(terms))
    found = solve(implicit.neumann(terms, rate), h, b, c, d, w)
    np.testing.assert_allclose(found, d + b.T @ v, rtol=1e-4)


def test_a_long_series_converges():
    h, b, c, d, w = quadratic(1)
    found = solve(implicit.neumann(300, 0.2), h, b, c, d, w)
    np.testing.assert_allclose(found, d + b.T @ np.linalg.solve(h, w - c), rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_at_the_minimum_unrolled_steps_are_terms_of_the_series(steps):
    """And many of them the implicit solution (Lorraine et al., 2020, theorem 1)."""
    h, b, c, d, _ = quadratic(2)
    rate = 0.3
    problem = as_problem(*map(jnp.asarray, (h, b, c, d)))._replace(optimizer=optax.sgd(rate))
    params = as_params(np.linalg.solve(h, b @ np.ones(3)))
    methods = [hypergrad.unrolled(steps), implicit.neumann(steps, rate)]
    methods += [hypergrad.finite_difference()] if steps == 1 else []
    methods += [implicit.conjugate_gradient(SIZE, 0.0)] if steps == 100 else []
    arguments = params, problem.optimizer.init(params), {"t": jnp.ones(3)}
    first, *others = [method(problem, *arguments)[0]["t"] for method in methods]
    assert np.linalg.norm(first - d) > 0.1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-4)


def test_conjugate_gradient_stops_where_the_hessian_does_not_curve_upwards():
    _, b, c, d, w = quadratic()
    target = w - c

    h = -np.eye(SIZE)
    found = solve(implicit.conjugate_gradient(4, 0.1), h, b, c, d, w)
    np.testing.assert_allclose(found, d, rtol=1e-6)  # as of first order

    # The first direction, the target itself, curves upwards, and then not all of them do.
    h = np.diag([3.0, 3.0, 3.0, 3.0, 3.0])
    other = np.linalg.qr(np.stack([target, *np.eye(SIZE)[:4]], 1))[0][:, 1]
    h = h - 6 * np.outer(other, other) + np.outer(target, other) + np.outer(other, target)
    v = target * (target @ target) / (target @ h @ target)
    found = solve(implicit.conjugate_gradient(30, 0.0), h, b, c, d, w)
    np.testing.assert_allclose(found, d + b.T @ v, rtol=1e-4)


@pytest.mark.parametrize(
    "method", [implicit.conjugate_gradient(SIZE, 0.1), implicit.neumann(3, 0.2)]
)
def test_replicas(method):
    """Two devices with problems of their own solve the mean problem, both of them."""
    *numbers, w = (np.stack(x) for x in zip(quadratic(0), quadratic(1), strict=True))
    params, alphas = as_params(w[0]), {"t": jnp.ones(3)}

    def of_replica(*numbers):
        problem = as_problem(*numbers)
        problem = problem._replace(mean=lambda tree: jax.lax.pmean(tree, "replicas"))
        return method(problem, params, None, alphas)[0]["t"]

    devices = jax.local_devices()[:2]
    found = jax.pmap(of_replica, "replicas", devices=devices)(*map(jnp.asarray, numbers))
    # The mean of the quadratics is a quadratic, up to a constant.
    expected = solve(method, *(x.mean(0) for x in numbers), w[0])
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: implicit.neumann(0), "terms=0"),
        (lambda: implicit.neumann(learning_rate=0.0), "learning_rate=0.0"),
        (lambda: implicit.conjugate_gradient(0), "iterations=0"),
        (lambda: implicit.conjugate_gradient(damping=-1.0), "damping=-1.0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def supernet_problem():
    """Cross-entropies of a small supernet with scanned cells on two batches."""
    operations = ("skip_connect", "nor_conv_3x3")
    space = spaces.NASBench201(channels=2, cells=2, stages=1, nodes=2, operations=operations)
    net = space.supernet(Classification((8, 8, 1), 3), rngs=nnx.Rngs(0))
    graph = nnx.graphdef(net)
    params = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    alphas = initial_alphas(space.decisions, jax.random.key(1), scale=0.5)
    image_key, label_key = jax.random.split(jax.random.key(2))
    images = jax.random.normal(image_key, (2, 4, 8, 8, 1))
    labels = jax.random.randint(label_key, (2, 4), 0, 3)

    def loss(params, alphas, i):
        mix = {name: jax.nn.softmax(table) for name, table in alphas.items()}
        logits = skeleton.merge(graph, params)(images[i], mix)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[i]).mean()

    problem = hypergrad.Problem(
        lambda p, a: loss(p, a, 0), lambda p, a: (loss(p, a, 1), ()), optax.sgd(0.1)
    )
    return problem, params, alphas


def test_supernet_against_the_dense_solution():
    problem, params, alphas = supernet_problem()
    flat, unravel = ravel_pytree(params)
    flat_alphas, unravel_alphas = ravel_pytree(alphas)

    @jax.jit
    def dense(w, a):
        def train(w, a):
            return problem.train_loss(unravel(w), unravel_alphas(a))

        def valid(w, a):
            return problem.valid_loss(unravel(w), unravel_alphas(a))[0]

        # Reverse over reverse, unlike the library.
        def along(direction):
            return jax.grad(lambda w, a: jax.grad(train)(w, a) @ direction, (0, 1))(w, a)

        return *jax.lax.map(along, jnp.eye(w.size)), *jax.grad(valid, (0, 1))(w, a)

    hessian, cross, in_params, direct = map(np.float64, dense(flat, flat_alphas))
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert eigenvalues[0] < -1e-3 * eigenvalues[-1]  # a real network, not at a minimum

    damping = float(-eigenvalues[0] + 0.2 * eigenvalues[-1])
    rate = float(1 / eigenvalues[-1])
    step = np.eye(flat.size) - rate * hessian
    solutions = {
        "cg": np.linalg.solve(hessian + damping * np.eye(flat.size), in_params),
        "neumann": rate * sum(np.linalg.matrix_power(step, k) @ in_params for k in range(4)),
    }
    methods = {
        "cg": implicit.conjugate_gradient(25, damping),
        "neumann": implicit.neumann(4, rate),
    }
    for name, method in methods.items():
        gradient = jax.jit(lambda p, a, m=method: m(problem, p, None, a)[0])(params, alphas)
        indirect = solutions[name] @ cross
        assert np.abs(indirect).max() > 0.02 * np.abs(direct).max()
        np.testing.assert_allclose(
            direct - ravel_pytree(gradient)[0], indirect, atol=2e-3 * np.abs(indirect).max()
        )


def test_unrolled_steps_on_the_supernet():
    """Against derivatives carried forward, one direction of the alphas at a time."""
    problem, params, alphas = supernet_problem()
    flat, unravel = ravel_pytree(alphas)

    def reached(flat):
        found = params
        for _ in range(2):
            gradient = jax.grad(problem.train_loss)(found, unravel(flat))
            found = jax.tree.map(lambda w, g: w - 0.1 * g, found, gradient)
        return problem.valid_loss(found, unravel(flat))[0]

    def along(direction):
        return jax.jvp(reached, (flat,), (direction,))[1]

    expected = jax.jit(lambda: jax.lax.map(along, jnp.eye(flat.size)))()
    direct = jax.jit(lambda: jax.grad(lambda a: problem.valid_loss(params, a)[0])(alphas))()
    assert np.abs(expected - ravel_pytree(direct)[0]).max() > 0.02 * np.abs(expected).max()
    state = problem.optimizer.init(params)
    gradient = jax.jit(lambda: hypergrad.unrolled(2)(problem, params, state, alphas)[0])()
    np.testing.assert_allclose(
        ravel_pytree(gradient)[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
