"""Discrete networks against their published definitions in float64 NumPy.

Compared are, in training, logits, those of the auxiliary head, the gradients of a loss in every
weight and all running averages after the step; then the logits with these averages. In float32
they agree to 2e-5 of the largest entry of each array, the gradients to 2e-4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
import tape
from flax import nnx

from dnas import costs
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification

NAS_BENCH_201 = NASBench201(channels=4, cells=2, stages=2)
CELL = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
SMALL_DARTS = DARTS(channels=2, cells=3, nodes=4)
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_5x5', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('avg_pool_3x3', 1), ('sep_conv_5x5', 3), ('dil_conv_3x3', 0), "
    "('skip_connect', 1)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('skip_connect', 1), ('sep_conv_5x5', 1), ('dil_conv_3x3', 2), ('avg_pool_3x3', 0), "
    "('sep_conv_3x3', 3), ('skip_connect', 2), ('dil_conv_5x5', 1)], reduce_concat=range(2, 6))"
)


def as_published(space, genotype, p, x, mode):
    """Logits, auxiliary logits or None, and the running averages that moved."""
    norm = published.Norm(mode)
    if isinstance(space, NASBench201):

        def cell(p, x):
            choices = genotype["cell"]
            return published.discrete_cell(p, [x], 1, space.nodes - 1, choices, False, norm)[-1]

        return published.nas_bench_201(p, x, space.cells, cell, norm), None, norm.moved

    def cell(p, states, reduction):
        choices = genotype["reduce" if reduction else "normal"]
        return published.discrete_cell(p, states, 2, space.nodes, choices, reduction, norm)

    logits, reduced = published.darts(p, x, space.reductions, cell, norm)
    head = published.auxiliary_head(p["auxiliary"], reduced, norm) if mode == "train" else None
    return logits, head, norm.moved


def with_averages(leaves, moved):
    """The arrays after a step; of cells that are stacked, each moves its own part."""
    new = {id(leaf): leaf.value for leaf in leaves}
    for part, value in moved:
        if part.pulls:
            ((leaf, put),) = part.pulls
            new[id(leaf)] = np.where(put(np.ones_like(value)) > 0, put(value), new[id(leaf)])
        else:
            new[id(part)] = value
    return [new[id(leaf)] for leaf in leaves]


def close(ours, theirs, share):
    """Whether arrays differ by no more than this share of the largest entry."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * max(np.abs(theirs).max(), 1e-3))


@pytest.mark.parametrize(
    ("space", "text", "size"),
    [(NAS_BENCH_201, CELL, 8), (SMALL_DARTS, GENOTYPE, 32)],
    ids=["nas_bench_201", "darts"],
)
def test_a_step_of_training_and_inference_after_it(space, text, size):
    genotype, rng = space.parse(text), np.random.default_rng(0)
    task, head = Classification((size, size, 3), 4), space.name == "darts"
    network = nnx.eval_shape(
        lambda: space.network(genotype, task, rngs=nnx.Rngs(0), auxiliary=head)
    )
    graph, state = nnx.split(network)
    state = jax.tree.map_with_path(
        lambda path, s: (
            rng.uniform(-0.5, 0.5, s.shape).astype(np.float32)
            + ("var" in jax.tree_util.keystr(path))
        ),
        nnx.to_pure_dict(state),
    )
    x = rng.normal(size=(6, size, size, 3)).astype(np.float32)
    directions = rng.normal(size=(1 + head, 6, task.classes)).astype(np.float32)

    def loss(state):
        network = nnx.merge(graph, nnx.State(state))
        outputs = [y for y in network(jnp.asarray(x), train=True) if y is not None]
        total = sum((y * d).sum() for y, d in zip(outputs, directions, strict=True))
        return total, (outputs, nnx.to_pure_dict(nnx.state(network)))

    def everything(state):
        gradients, (outputs, new) = jax.grad(loss, has_aux=True)(state)
        return outputs, nnx.merge(graph, nnx.State(new))(jnp.asarray(x)).logits, gradients, new

    program = jax.jit(everything).lower(state)
    ours = program.compile({"xla_backend_optimization_level": 0})(state)

    p, leaves = tape.variables(state)
    *outputs, moved = as_published(space, genotype, p, tape.Var(x), "train")
    outputs = [y for y in outputs if y is not None]
    total = tape.total((y * d).sum() for y, d in zip(outputs, directions, strict=True))
    gradients = tape.gradients(total, leaves)
    new = with_averages(leaves, moved)
    after, _ = tape.variables(jax.tree.unflatten(jax.tree.structure(state), new))
    inferred, *_ = as_published(space, genotype, after, tape.Var(x), "eval")

    assert len(moved) == sum(  # all averages: one of each stacked cell
        s.shape[0] if s.ndim > 1 else 1
        for path, s in jax.tree.leaves_with_path(state)
        if jax.tree_util.keystr(path).endswith(("['mean']", "['var']"))
    )
    for mine, theirs in zip(ours[0], outputs, strict=True):
        close(mine, theirs.value, 2e-5)
    close(ours[1], inferred.value, 2e-5)
    for mine, theirs in zip(jax.tree.leaves(ours[2]), gradients, strict=True):
        close(mine, theirs, 2e-4)
    for mine, theirs in zip(jax.tree.leaves(ours[3]), new, strict=True):
        close(mine, theirs, 2e-5)


def operation_parameters(name, c, stride):
    """Parameters of an operation, normalisations with two for each channel."""
    if name == "skip_connect":
        return c * c + 2 * c if stride == 2 else 0
    if "pool" in name:
        return 0
    size = int(name[-1])
    once = size * size * c + c * c + 2 * c
    return 2 * once if name.startswith("sep") else once


def test_parameters_of_darts_by_the_published_definition():
    space = DARTS(channels=8, cells=7)
    rng = np.random.default_rng(0)
    for _ in range(2):
        genotype = space.sample(rng)
        c, inputs = space.channels, [3 * space.channels] * 2
        expected = 9 * 3 * inputs[0] + 2 * inputs[0]
        for i in range(space.cells):
            reduction = i in space.reductions
            c *= 2 if reduction else 1
            expected += c * sum(inputs) + 2 * 2 * c
            for row, name in genotype["reduce" if reduction else "normal"].items():
                stride = 2 if reduction and row[0] in "01" else 1
                expected += operation_parameters(name, c, stride)
            inputs = [inputs[1], 4 * c]
        expected += inputs[1] * 10 + 10
        assert costs.count_parameters(space, genotype, Classification((32, 32, 3), 10)) == expected
