"""Every part that the command line knows, on every kind of space."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from dnas import presets, spaces
from dnas.space import Task
from experiments import parts

TASK = Task((8, 8, 1), 4)
CELLS = spaces.DARTS(
    channels=2, cells=3, nodes=1, stem_multiplier=1, operations=("none", "skip_connect")
)
EDGES = (("skip_connect", "avg_pool_3x3"), ("none", "skip_connect", "max_pool_3x3"))
SPACES = {
    "cell": spaces.NASBench201(channels=2, cells=1, stages=2, nodes=3),
    "normal and reduction": CELLS,
    "a table for each edge": dataclasses.replace(CELLS, normal=EDGES, reduce=EDGES),
}
TRACED = ("relaxation", "hypergradient", "regularizer", "perturbation")


def test_all_that_a_step_is_made_of_is_traced_here():
    assert set(parts.PARTS) - set(TRACED) == {"stopping", "selection"}  # not within a step


def combinations():
    """As many as it takes for each part to be in one; the shorter lists are repeated."""
    lists = [list(parts.PARTS[key][1].items()) for key in TRACED]
    longest = max(map(len, lists))
    return zip(*(itertools.islice(itertools.cycle(named), longest) for named in lists), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "chosen", [dict(zip(TRACED, chosen, strict=True)) for chosen in combinations()]
)
def test_every_part_has_a_step_in_every_space(chosen, space):
    made = {parts.PARTS[key][0]: part.make() for key, (_, part) in chosen.items()}
    preset = presets.darts(epochs=10, **made)
    search = preset.build(
        preset.modify(SPACES[space]),
        TASK,
        steps_per_epoch=3,
        epochs=10,
        preprocess=lambda key, images: images.astype(jnp.float32) / 255,
    )
    batch = {
        "image": jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    state = jax.eval_shape(search.init, jax.random.key(0))
    new, metrics = jax.eval_shape(search.step, state, batch, batch)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (state, new)]
    assert shapes[0] == shapes[1]
    assert {(m.shape, m.dtype) for m in metrics.values()} == {((), jnp.dtype("float32"))}
