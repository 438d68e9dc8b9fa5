"""The optional parts of a search step, on a space whose supernet is a layer of neurons."""

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from plain import Plain, means
from toys import Rows

from dnas import spaces
from dnas.gradient import bilevel, hypergrad, perturb, relax, skeleton
from dnas.gradient.freeze import Freeze, Frozen
from dnas.runtime import parallel
from dnas.space import Decision, Mixing

pytestmark = pytest.mark.optimised  # two programs are compared to a few units of rounding

TASK = Plain((3, 2, 1), 3)
CHOICES = (jax.nn.relu, jnp.tanh, lambda x: x)


class Supernet(nnx.Module):
    def __init__(self, task, rngs):
        self.hidden = nnx.List(nnx.Linear(6, 6, rngs=rngs) for _ in range(2))
        self.head = nnx.Linear(6, task.classes, rngs=rngs)

    def __call__(self, x, mix, key=None, *, auxiliary_skip=0.0, skip_dropout=0.0):
        x = x.reshape(len(x), -1)
        for layer, row in zip(self.hidden, jnp.moveaxis(mix["layers"], -2, 0), strict=True):
            y = layer(x)
            x = sum(w * f(y) for w, f in zip(row, CHOICES, strict=True)) + auxiliary_skip * x
        return (1 - skip_dropout) * self.head(x)


@dataclasses.dataclass(frozen=True)
class Activations(Rows):
    name = "activations"

    @property
    def decisions(self):
        return {"layers": Decision("layers", ("first", "second"), ("relu", "tanh", "identity"))}

    def supernet(self, task, *, rngs):
        return Supernet(task, rngs)


def batch(seed, size=8):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (size, 3, 2, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 3, size), jnp.int32),
    }


def make(space: Any = Activations(), **parts):
    defaults = {
        "relaxation": relax.softmax(),
        "hypergradient": hypergrad.first_order(),
        "weight_optimizer": optax.sgd(0.1, 0.9),
        "alpha_optimizer": optax.adam(0.1),
    }
    return bilevel.bilevel(space, TASK, **{**defaults, **parts})


def start(search, seed=0):
    return jax.jit(search.init)(jax.random.key(seed))


def loss(params, mix, data, **modifiers):
    graph = nnx.graphdef(Supernet(TASK, nnx.Rngs(0)))
    logits = skeleton.merge(graph, params)(TASK.prepare(None, data, True)[0], mix, **modifiers)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), data["label"][:, None], 1).mean()


def softmax(alphas):
    return {"layers": jax.nn.softmax(alphas["layers"])}


def test_nothing_of_alphas_moves_in_the_warm_up_and_everything_afterwards():
    search, plain = make(warmup_steps=2), make()
    step = jax.jit(search.step)
    state = first = start(search)
    for i in range(2):
        state, metrics = step(state, batch(2 * i), batch(2 * i + 1))
        chex.assert_trees_all_equal(state.alphas, first.alphas)
        chex.assert_trees_all_equal(state.alpha_opt, first.alpha_opt)
        assert means(metrics)["valid_loss"] > 0
    moved = optax.tree.sub(state.params, first.params)
    assert optax.tree.norm(moved) > 1e-3
    third, _ = step(state, batch(4), batch(5))
    expected, _ = jax.jit(plain.step)(state, batch(4), batch(5))
    chex.assert_trees_all_close(third._replace(key=()), expected._replace(key=()), rtol=1e-6)
    assert jnp.abs(third.alphas["layers"] - first.alphas["layers"]).min() > 0.05
    assert step._cache_size() == 1


def test_alphas_move_in_the_last_of_every_so_many_steps():
    search, plain = make(alpha_interval=3, warmup_steps=4), make()
    step, both = jax.jit(search.step), jax.jit(plain.step)
    state, moved = start(search), []
    for i in range(10):
        batches = batch(2 * i), batch(2 * i + 1)
        new, metrics = step(state, *batches)
        if jnp.array_equal(new.alphas["layers"], state.alphas["layers"]):
            chex.assert_trees_all_equal(new.alpha_opt, state.alpha_opt)
        else:
            moved.append(i)
            expected, _ = both(state, *batches)
            chex.assert_trees_all_close(new.alphas, expected.alphas, rtol=1e-6)
        assert optax.tree.norm(optax.tree.sub(new.params, state.params)) > 1e-4
        assert means(metrics)["valid_loss"] > 0
        state = new
    assert moved == [5, 8] and step._cache_size() == 1  # the third step is in the warm-up


def test_regularizers_add_their_gradients_for_alphas_only():
    def by_mix(alphas, mix, step):
        return (step + 1.0) * jnp.square(mix["layers"]).sum(), {"by_mix": mix["layers"].sum()}

    def by_alphas(alphas, mix, step):
        return 3 * (alphas["layers"] ** 3).sum(), {"by_alphas": step + 0.5}

    search = make(regularizers=(by_mix, by_alphas), alpha_optimizer=optax.sgd(1.0))
    plain = make(alpha_optimizer=optax.sgd(1.0))
    state = start(search)
    state = state._replace(
        alphas={"layers": jnp.asarray([[0.1, 0.5, -0.2], [1.0, 0.0, 0.3]])}, step=jnp.int32(4)
    )
    new, metrics = search.step(state, batch(0), batch(1))
    without, _ = plain.step(state, batch(0), batch(1))
    gradient = jax.grad(
        lambda a: 5 * jnp.square(softmax(a)["layers"]).sum() + 3 * (a["layers"] ** 3).sum()
    )(state.alphas)
    np.testing.assert_allclose(
        without.alphas["layers"] - new.alphas["layers"], gradient["layers"], rtol=1e-4, atol=1e-6
    )
    assert float(metrics["by_alphas"]) == 4.5 and abs(float(metrics["by_mix"]) - 2) < 1e-6
    # The weights take their step at the new alphas, along the loss alone.
    g = jax.grad(loss)(state.params, softmax(new.alphas), batch(0))
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, g)
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-7)


def test_weights_train_at_the_perturbed_mix_and_alphas_at_their_own():
    seen = {}

    def perturbation(key, train_loss, mix, step, mean):
        seen.update(loss=train_loss(mix), mix=mix)
        return {"layers": jnp.eye(3)[:2] * (1 + train_loss(mix))}

    search = make(perturbation=perturbation)
    state = start(search)
    new, metrics = search.step(state, batch(0), batch(1))
    chex.assert_trees_all_close(seen["mix"], softmax(new.alphas), rtol=1e-6)
    np.testing.assert_allclose(seen["loss"], loss(state.params, seen["mix"], batch(0)), rtol=1e-5)
    mix = {"layers": jnp.eye(3)[:2] * (1 + seen["loss"])}
    value, g = jax.value_and_grad(loss)(state.params, mix, batch(0))
    np.testing.assert_allclose(means(metrics)["train_loss"], value, rtol=1e-5)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, g)
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-7)
    own = loss(state.params, softmax(state.alphas), batch(1))
    np.testing.assert_allclose(means(metrics)["valid_loss"], own, rtol=1e-5)


def test_frozen_weights_stand_still_whatever_momentum_and_decay_want():
    def mask(params, frozen):
        ones = jax.tree.map(jnp.ones_like, params)
        rows = jnp.asarray([0.0, 1, 1, 1, 1, 1])[:, None]
        ones["hidden"][0]["kernel"] = jnp.where(frozen, rows, 1.0)
        ones["head"]["bias"] = jnp.where(frozen, 0.0, 1.0)
        return ones

    def update(train, valid, state, owners):
        count = state[0]
        return mask(train, count >= 2), (count + 1, train, valid)

    def frozen(state):
        share = (state[0] > 2).astype(jnp.float32)
        return Frozen(share, share)

    freeze = Freeze(lambda params, owners: (jnp.int32(0), params, params), update, frozen)
    decayed = optax.chain(
        optax.clip_by_global_norm(0.5), optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9)
    )
    search = make(freeze=freeze, weight_optimizer=decayed)
    assert make(weight_optimizer=decayed).frozen is None
    step = jax.jit(search.step)
    states = [start(search)]
    for i in range(4):
        new, _ = step(states[-1], batch(2 * i), batch(2 * i + 1))
        for gradient, data in zip(new.extra[1:], (batch(2 * i), batch(2 * i + 1)), strict=True):
            expected = jax.grad(loss)(states[-1].params, softmax(new.alphas), data)
            chex.assert_trees_all_close(gradient, expected, rtol=1e-4, atol=1e-6)
        states.append(new)
    assert [float(search.frozen(state).share) for state in states] == [0, 0, 0, 1, 1]
    before, last = states[2].params, states[4].params
    np.testing.assert_array_equal(last["head"]["bias"], before["head"]["bias"])
    kernels = [p["hidden"][0]["kernel"] for p in (before, last)]
    np.testing.assert_array_equal(kernels[1][0], kernels[0][0])
    assert (kernels[1][1:] != kernels[0][1:]).all()
    assert (states[1].params["head"]["bias"] != states[2].params["head"]["bias"]).all()
    # What is frozen does not count in the norm that is clipped.
    g = jax.grad(loss)(states[2].params, softmax(states[3].alphas), batch(4))
    g = jax.tree.map(jnp.multiply, g, mask(g, True))
    free = make(weight_optimizer=optax.sgd(1.0), freeze=freeze)
    shifted, _ = free.step(
        states[2]._replace(weight_opt=start(free).weight_opt), batch(4), batch(5)
    )
    moved = optax.tree.sub(states[2].params, shifted.params)
    chex.assert_trees_all_close(moved, g, rtol=1e-3, atol=1e-6)


def test_a_weight_penalty_is_part_of_the_weights_gradient():
    def penalty(train_loss, params, mix, step, mean):
        term = jax.tree.map(lambda p: jnp.full_like(p, step + 1.0), params)
        return term, {"alignment": train_loss(params, mix)}

    search = make(weight_penalty=penalty, weight_optimizer=optax.sgd(1.0))
    state = start(search)._replace(step=jnp.int32(1))
    new, metrics = search.step(state, batch(0), batch(1))
    g = jax.grad(loss)(state.params, softmax(new.alphas), batch(0))
    expected = jax.tree.map(lambda w, g: w - g - 2, state.params, g)
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-6)
    assert float(metrics["alignment"]) == pytest.approx(means(metrics)["train_loss"])


def test_schedules_reach_the_supernet_without_a_new_compilation():
    search = make(
        auxiliary_skip=optax.linear_schedule(1.0, 0.0, 2),
        skip_dropout=optax.linear_schedule(0.0, 0.5, 2),
        hypergradient=hypergrad.frozen(),
        alpha_optimizer=optax.sgd(1.0),
    )
    step = jax.jit(search.step)
    state = start(search)
    for skip, dropout in ((1.0, 0.0), (0.5, 0.25), (0.0, 0.5)):
        modifiers = {"auxiliary_skip": skip, "skip_dropout": dropout}
        mix = softmax(state.alphas)
        expected = [loss(state.params, mix, batch(i), **modifiers) for i in (0, 1)]
        state, metrics = step(state, batch(0), batch(1))
        found = means(metrics)["train_loss"], means(metrics)["valid_loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert step._cache_size() == 1


def test_the_eigenvalue_is_that_of_the_dense_hessian():
    search = make(relaxation=relax.gumbel_softmax(1.0, hard=False))
    state = start(search)
    state = state._replace(alphas={"layers": 2 * jax.random.normal(jax.random.key(3), (2, 3))})

    def valid(flat):
        return loss(state.params, softmax({"layers": flat.reshape(2, 3)}), batch(1))

    dense = jax.hessian(valid)(state.alphas["layers"].ravel())
    found = jax.jit(search.eigenvalue)(state, batch(0), batch(1))
    np.testing.assert_allclose(found, np.linalg.eigvalsh(dense)[-1], rtol=1e-4, atol=1e-6)


def test_replicas_agree_on_all_parts():
    def regularizer(alphas, mix, step):
        return jnp.square(mix["layers"]).sum(), {"square": jnp.square(mix["layers"]).sum()}

    def perturbation(key, train_loss, mix, step, mean):
        gradient = mean(jax.grad(train_loss)(mix))
        noise = jax.random.uniform(key, mix["layers"].shape)
        return {"layers": mix["layers"] + 0.1 * jnp.sign(gradient["layers"]) + 0.01 * noise}

    def update(train, valid, state, owners):
        agree = jax.tree.map(lambda a, b: ((a * b).sum() > 0).astype(jnp.float32), train, valid)
        return agree, state + sum(jax.tree.leaves(agree))

    many = parallel.make("pmap", 2)
    parts = {
        "relaxation": relax.gumbel_softmax(1.0, hard=False),
        "regularizers": (regularizer,),
        "perturbation": perturbation,
        "freeze": Freeze(lambda params, owners: jnp.zeros(()), update, lambda state: None),
        "warmup_steps": 1,
    }
    search, alone = make(axis_name=many.axis_name, **parts), make(**parts)
    first = start(search)
    stack = [
        jax.tree.map(lambda *x: jnp.stack(x), *[batch(s + i) for i in range(3)]) for s in (0, 9)
    ]
    state, _ = many.advance(search.step)(many.replicate(first), tuple(stack), 3)
    for leaf in jax.tree.leaves(state._replace(key=())):
        copies = np.asarray(leaf)
        assert (copies == copies[:1]).all()
    # This supernet does not normalise: halves of a batch are as good as the whole.
    expected = start(alone)
    step = jax.jit(alone.step)
    for i in range(3):
        expected, _ = step(expected, *(jax.tree.map(lambda x, i=i: x[i], part) for part in stack))
    found = many.unreplicate(state)
    chex.assert_trees_all_close(
        found._replace(key=()), expected._replace(key=()), rtol=1e-4, atol=1e-6
    )
    sharded = jax.tree.map(lambda x: x[0].reshape(2, 4, *x.shape[2:]), stack)
    eigenvalue = jax.pmap(search.eigenvalue, many.axis_name, devices=jax.devices()[:2])
    values = eigenvalue(state, *sharded)
    whole = alone.eigenvalue(found, *(jax.tree.map(lambda x: x[0], part) for part in stack))
    assert values[0] == values[1] and math.isclose(values[0], whole, rel_tol=1e-3)


def test_initial_alphas_have_the_scale():
    assert float(start(make(alpha_scale=0.0)).alphas["layers"].std()) == 0
    scales = [float(start(make(alpha_scale=s)).alphas["layers"].std()) for s in (1.0, 2.0)]
    assert math.isclose(2 * scales[0], scales[1], rel_tol=1e-5)


def test_single_paths_want_one_hot_samples():
    space = spaces.NASBench201(
        channels=2, cells=1, stages=1, nodes=2, mixing=Mixing(single_path=True)
    )
    with pytest.raises(ValueError, match=r"relaxation must have one-hot samples: .* 'cell'"):
        make(space)
    hard = relax.gumbel_softmax(hard=True)
    make(space, relaxation=hard)
    with pytest.raises(
        ValueError, match="perturbation must be left out: this supernet computes single"
    ):
        make(space, relaxation=hard, perturbation=perturb.random_smoothing(0.1))
