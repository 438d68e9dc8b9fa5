"""The search step: settings, seeds and traces; tests/parity has its numbers."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from plain import Plain

from dnas import presets, spaces
from dnas.gradient import hypergrad, relax

SPACE, TASK = (
    spaces.NASBench201(channels=2, cells=1, stages=1, nodes=3),
    Plain((6, 6, 1), 3),
)


def batch(seed, size=8):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (size, 6, 6, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 3, size), jnp.int32),
    }


def test_a_relaxation_of_the_wrong_shape_is_refused():
    wrong = relax.Relaxation(lambda key, alphas, step: {"cell": alphas["cell"][:, :1]})
    search = presets.darts(relaxation=wrong).build(SPACE, TASK, steps_per_epoch=1, epochs=1)
    state = jax.eval_shape(search.init, jax.random.key(0))
    with pytest.raises(AssertionError, match="shape"):
        jax.eval_shape(search.step, state, batch(0), batch(1))


def test_published_defaults():
    preset = presets.darts()
    assert (preset.epochs, preset.batch_size) == (50, 64)
    assert (preset.learning_rate, preset.final_learning_rate) == (0.025, 0.001)
    assert (preset.momentum, preset.weight_decay, preset.clip_norm) == (0.9, 3e-4, 5.0)
    assert (preset.alpha_learning_rate, preset.alpha_betas) == (3e-4, (0.5, 0.999))
    assert preset.alpha_weight_decay == 1e-3
    with pytest.raises(ValueError, match="order=3"):
        presets.darts(3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 2.5, "expected a whole number"),
        ("learning_rate", 0, "expected a number above 0"),
        ("final_learning_rate", 0.1, "expected at most learning_rate=0.025"),
        ("momentum", 1.0, "expected a number from 0 to below 1"),
        ("clip_norm", -1, "expected a number of at least 0"),
        ("alpha_betas", (0.5,), "expected two numbers"),
        ("alpha_interval", 0, "expected a whole number of at least 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value, message):
    with pytest.raises(ValueError, match=f"{name}=.*{message}"):
        presets.darts(**{name: value})


def test_the_learning_rate_ends_at_its_final_value():
    optimizer = presets.darts(weight_decay=0.0, momentum=0.0).weight_optimizer(10)
    state = optimizer.init(jnp.ones(1))
    rates = []
    for _ in range(12):
        updates, state = optimizer.update(jnp.ones(1), state, jnp.ones(1))
        rates.append(-float(updates[0]))
    np.testing.assert_allclose(rates[0], 0.025, rtol=1e-6)
    np.testing.assert_allclose(rates[10:], 0.001, rtol=1e-6)
    assert all(a > b for a, b in itertools.pairwise(rates[:11]))


def test_same_seed_same_state_other_seed_other_state():
    search = presets.darts().build(SPACE, TASK, steps_per_epoch=1, epochs=1)
    init = jax.jit(search.init)
    first, again, other = (init(jax.random.key(s))._replace(key=()) for s in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert jnp.abs(first.alphas["cell"] - other.alphas["cell"]).max() > 1e-4
    assert optax.tree.norm(optax.tree.sub(first.params, other.params)) > 0.1
    assert 2e-4 < float(first.alphas["cell"].std()) < 3e-3


@pytest.mark.parametrize(
    "hypergradient", [hypergrad.first_order(), hypergrad.joint()], ids=["first_order", "joint"]
)
def test_both_gradients_are_traced_once(hypergradient):
    calls = []

    @jax.custom_vjp
    def counted(x):
        return x

    def forward(x):
        calls.append("forward")
        return x, None

    def backward(_, ct):
        calls.append("backward")
        return (ct,)

    counted.defvjp(forward, backward)
    relaxation = relax.softmax()

    class Supernet(nnx.Module):
        def __init__(self, net):
            self.net = net

        def __call__(self, x, mix, key=None):
            calls.append("call")
            return counted(self.net(x, mix, key=key))

    class Space(spaces.NASBench201):
        def supernet(self, task, *, rngs):
            return Supernet(super().supernet(task, rngs=rngs))

    space = Space(channels=2, cells=1, stages=1, nodes=3)
    preset = presets.darts(hypergradient=hypergradient, relaxation=relaxation)
    search = preset.build(space, TASK, steps_per_epoch=2, epochs=2)
    state = jax.eval_shape(search.init, jax.random.key(0))
    jax.make_jaxpr(search.step)(state, batch(0), batch(1))
    assert sorted(calls) == ["backward", "call", "forward"]
