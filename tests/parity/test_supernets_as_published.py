"""Supernets against their published definitions in float64 NumPy.

Compared are logits, and the gradients of a loss in every weight and mixing weight: in float32
they agree to 2e-5 and 2e-4 of the largest entry of each array.
"""

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
import tape
from flax import nnx

from dnas.space import Mixing
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Classification

TASK = Classification((8, 8, 3), 4)
SPACES = {
    "nas_bench_201": NASBench201(channels=4, cells=2, stages=2),
    "darts": DARTS(channels=4, cells=6, nodes=1),  # two cells in one scan, and lone ones
    "pc_darts": DARTS(
        channels=8,
        cells=3,
        nodes=2,
        operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
        mixing=Mixing(4, edge_normalization=True),
    ),
}


def as_published(space, p, x, mix):
    """The logits of a space's supernet."""
    if isinstance(space, NASBench201):

        def cell(p, x):
            table = mix["cell"]
            return published.mixed_cell(p, [x], space.nodes - 1, table, space.operations)[-1]

        return published.nas_bench_201(p, x, space.cells, cell, published.Norm("search"))

    def cell(p, states, reduction):
        part = "reduce" if reduction else "normal"
        betas = None
        if space.mixing.edge_normalization:
            incoming = published.edges(2, space.nodes)
            betas = [mix[f"{part}.{j}"][0, i] for i, j in incoming]
        return published.mixed_cell(
            *(p, states, space.nodes, mix[part], space.operations),
            reduction=reduction,
            partial=space.mixing.partial,
            betas=betas,
        )

    return published.darts(p, x, space.reductions, cell, published.Norm("search"))[0]


def close(ours, theirs, share):
    """Whether arrays differ by no more than this share of the largest entry."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * max(np.abs(theirs).max(), 1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_logits_and_gradients(name):
    space, rng = SPACES[name], np.random.default_rng(0)
    graph, params = nnx.split(nnx.eval_shape(lambda: space.supernet(TASK, rngs=nnx.Rngs(0))))
    params = jax.tree.map(
        lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), nnx.to_pure_dict(params)
    )
    tables = {name: (len(d.rows), len(d.options)) for name, d in space.decisions.items()}
    mix = {name: rng.dirichlet(np.ones(n), m).astype(np.float32) for name, (m, n) in tables.items()}
    x = rng.normal(size=(4, *TASK.image_shape)).astype(np.float32)
    direction = rng.normal(size=(4, TASK.classes))

    def loss(params, mix):
        logits = nnx.merge(graph, nnx.State(params))(jnp.asarray(x), mix)
        return (logits * direction.astype(np.float32)).sum(), logits

    program = jax.jit(jax.grad(loss, (0, 1), has_aux=True)).lower(params, mix)
    ours, logits = program.compile({"xla_backend_optimization_level": 0})(params, mix)

    p, weights = tape.variables(params)
    own, tables = tape.variables(mix)
    expected = as_published(space, p, tape.Var(x), own)
    gradients = tape.gradients((expected * direction).sum(), weights + tables)
    assert np.abs(expected.value).max() > 0.1
    close(logits, expected.value, 2e-5)
    for mine, theirs in zip(jax.tree.leaves(ours), gradients, strict=True):
        close(mine, theirs, 2e-4)
