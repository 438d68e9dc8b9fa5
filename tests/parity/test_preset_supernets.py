"""What presets do with a real supernet, against the plain one of `reference`.

A step of Lambda-DARTS, the curvature that R-DARTS watches, and the decisions of DARTS-PT are
computed again from their definitions, with JAX's own convolutions and dense matrices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from flax import nnx
from plain import Plain, means

from dnas import data as datasets
from dnas import presets, selection, spaces
from dnas.evaluators import Supernet
from dnas.gradient import skeleton
from dnas.gradient.stopping import Record, eigenvalue_ratio
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.workdir import Workdir

OPTIONS = ("skip_connect", "nor_conv_1x1", "avg_pool_3x3")
SPACE = spaces.NASBench201(channels=2, cells=1, stages=1, nodes=3, operations=OPTIONS)
PAIR = spaces.NASBench201(channels=2, cells=2, stages=1, nodes=2, operations=OPTIONS)
TASK, BATCH = Plain((6, 6, 1), 3), 16
RNG = np.random.default_rng(0)


def batch(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, 6, 6, 1), np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.asarray(np.arange(BATCH) % 3)}


def logits(space, params, mix, images):
    net = nnx.eval_shape(lambda: space.supernet(TASK, rngs=nnx.Rngs(0)))
    return reference.nas_bench_201(skeleton.merge(nnx.graphdef(net), params), images, mix, space)


def loss(space, params, mix, data):
    right = jax.nn.log_softmax(logits(space, params, mix, TASK.prepare(None, data, True)[0]))
    return -right[jnp.arange(BATCH), data["label"]].mean()


def softmax(alphas):
    return {"cell": jax.nn.softmax(alphas["cell"], -1)}


def begin(search, rows, scale=1.0):
    """The first state, with alphas that tell options apart."""
    state = jax.jit(search.init)(jax.random.key(0))
    alphas = jnp.asarray(scale * RNG.normal(size=(rows, 3)), jnp.float32)
    return state._replace(alphas={"cell": alphas})


def build(preset, space):
    return preset.build(space, TASK, steps_per_epoch=5, epochs=2)


@pytest.mark.slow
def test_the_whole_step_of_the_weights_in_lambda_darts():
    """``L_train - weight * alignment`` differentiated as one function, reverse over reverse."""
    preset = presets.lambda_darts()
    search = build(preset, PAIR)
    state = begin(search, 1)._replace(step=jnp.int32(6))
    train, valid = batch(1), batch(2)
    new, metrics = jax.jit(search.step)(state, train, valid)
    weight, mix = 0.25 * 6 / 9, softmax(new.alphas)  # alphas move first

    def lagrangian(params):
        """With the alignment, and the gradient in each cell's copy of the mix."""

        def of_copies(copies):
            return loss(PAIR, params, {"cell": copies}, train)

        copies = jnp.broadcast_to(mix["cell"], (2, *mix["cell"].shape))
        value, gradient = jax.value_and_grad(of_copies)(copies)
        a, b = gradient.reshape(2, -1)
        alignment = a @ b / jnp.sqrt((a @ a) * (b @ b))
        return value - weight * alignment, (value, alignment)

    (_, (value, alignment)), total = jax.jit(jax.value_and_grad(lagrangian, has_aux=True))(
        state.params
    )
    np.testing.assert_allclose(means(metrics)["train_loss"], value, rtol=1e-4)
    np.testing.assert_allclose(metrics["alignment"], alignment, rtol=1e-3)
    norm = float(optax.tree.norm(total))
    scale = min(1.0, preset.clip_norm / norm)

    def check(before, after, gradient):
        expected = scale * gradient + preset.weight_decay * before
        found = (before - after) / preset.learning_rate  # no momentum yet
        np.testing.assert_allclose(found, expected, atol=2e-3 * norm)

    jax.tree.map(check, state.params, new.params, total)
    # The term counts: without it the gradient is another.
    plain_gradient = jax.jit(jax.grad(lambda p: loss(PAIR, p, mix, train)))(state.params)
    assert optax.tree.norm(optax.tree.sub(total, plain_gradient)) > 0.02 * norm


@pytest.mark.slow
def test_the_curvature_and_the_end_of_r_darts():
    """Eigenvalues of dense Hessians over six epochs of a search, and the rule on them."""
    search = build(presets.r_darts(alpha_learning_rate=0.3), SPACE)
    state = begin(search, 3, 0.1)
    step, eigenvalue = jax.jit(search.step), jax.jit(search.eigenvalue)

    @jax.jit
    def dense(params, flat, data):
        def of_alphas(flat):
            return loss(SPACE, params, softmax({"cell": flat.reshape(3, 3)}), data)

        return jax.hessian(of_alphas)(flat)

    found, expected, records = [], [], []
    for epoch in range(6):
        state, _ = step(state, batch(2 * epoch), batch(2 * epoch + 1))
        data = batch(99)
        found.append(float(eigenvalue(state, batch(98), data)))
        hessian = dense(state.params, state.alphas["cell"].ravel(), data)
        expected.append(np.linalg.eigvalsh(np.asarray(hessian, np.float64))[-1])
        genotype = SPACE.discretize(softmax(state.alphas))
        names = [OPTIONS[o] for o in np.asarray(state.alphas["cell"]).argmax(-1)]
        assert list(genotype["cell"].values()) == names
        records.append(Record(genotype, found[-1]))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)
    assert min(expected) > 0

    for ratio in (0.5, 0.9, 1.1, 2.0):
        rule = eigenvalue_ratio(ratio, lag=1, window=2).rule
        means = np.convolve(expected, [0.5, 0.5], "valid")
        ends = [i + 2 for i in range(len(means) - 1) if means[i] < ratio * means[i + 1]]
        stops = [e for n in range(1, 7) if (e := rule(records[:n])) is not None]
        assert stops == ends


def test_the_decisions_of_darts_pt():
    """On every edge the option without which the plain supernet is least accurate."""
    images = RNG.integers(0, 256, (96, 6, 6, 1), np.uint8)
    labels = np.arange(96) % 3
    data = datasets.from_arrays(images, labels, images[:3], labels[:3])
    search = build(presets.darts(), SPACE)
    state = begin(search, 3)
    feed = datasets.make_feed(datasets.halve(data.train, 0), BATCH, jax.random.key(1))
    supernet = Supernet(
        *(SPACE, data.task(), search, state, feed),
        optimizer=optax.sgd(0.1),
        journal=Journal(Workdir(None), Interrupts()),
    )
    mix = {name: np.asarray(table) for name, table in softmax(state.alphas).items()}
    trained = selection.Trained(SPACE, mix, jax.random.key(0), supernet, None, None)
    genotype, record = selection.perturbation(epochs=0)(trained)

    half = feed.parts[1]
    pictures = (images[half.indices] / 255 - np.asarray(data.mean)) / np.asarray(data.std)
    batches = pictures.astype(np.float32).reshape(3, BATCH, 6, 6, 1)
    targets = labels[half.indices].reshape(3, BATCH)
    forward = jax.jit(functools.partial(logits, SPACE))

    def validate(table):
        """Accuracy and negative loss; the larger the better."""
        scores = []
        for x, y in zip(batches, targets, strict=True):
            out = np.asarray(forward(state.params, {"cell": jnp.float32(table)}, x), np.float64)
            log_sum = np.log(np.exp(out).sum(-1))
            right = (out.argmax(-1) == y).mean()
            scores.append((right, (out[np.arange(BATCH), y] - log_sum).mean()))
        return tuple(np.mean(scores, 0))

    mix = np.asarray(softmax(state.alphas)["cell"], np.float64)
    rows = list(SPACE.decisions["cell"].rows)
    assert sorted(decision["row"] for decision in record) == sorted(rows)
    for decision in record:
        row, without = rows.index(decision["row"]), {}
        for o, option in enumerate(OPTIONS):
            table = mix.copy()
            table[row, o] = 0  # the others are not scaled up
            without[option] = validate(table)
            stated = decision["without"][option]
            np.testing.assert_allclose(stated["accuracy"], without[option][0], rtol=1e-5)
            np.testing.assert_allclose(stated["loss"], -without[option][1], rtol=1e-3)
        chosen = min(without, key=without.get)
        assert decision["option"] == chosen
        mix[row] = np.eye(3)[OPTIONS.index(chosen)]
    assert [OPTIONS[o] for o in mix.argmax(-1)] == list(genotype["cell"].values())
