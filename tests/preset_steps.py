"""Steps of presets on small spaces, from shapes alone."""

import jax
import jax.numpy as jnp
from plain import Plain

from dnas import spaces

TASK = Plain((8, 8, 1), 4)
CELL = spaces.NASBench201(channels=4, cells=1, stages=2, nodes=3)
DARTS = spaces.DARTS(
    channels=8,
    cells=3,
    nodes=1,
    stem_multiplier=1,
    operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
)

S1 = spaces.DARTS.subset("s1", channels=8, cells=3, stem_multiplier=1)  # a table an edge


def batch(size=2):
    return {
        "image": jax.ShapeDtypeStruct((size, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }


def build(preset, space, **options):
    options = {"steps_per_epoch": 3, "epochs": 10, **options}
    return preset.build(preset.modified(space), TASK, **options)


def check_step(search):
    """A step keeps shapes and types of the state, and its metrics are float32 scalars."""
    state = jax.eval_shape(search.init, jax.random.key(0))
    new, metrics = jax.eval_shape(search.step, state, batch(), batch())
    again, _ = jax.eval_shape(search.step, new, batch(), batch())
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (state, new, again)]
    assert shapes[0] == shapes[1] == shapes[2]
    leaves = jax.tree.leaves(metrics)
    assert {m.shape for m in leaves} == {()} and {m.dtype for m in leaves} == {jnp.dtype("float32")}
