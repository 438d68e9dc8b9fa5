"""A network that does not train is a function: JAX may transform it where it is closed over."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from dnas import spaces
from dnas.genotype import Genotype
from dnas.tasks import Classification

TASK = Classification((8, 8, 3), 4)
DARTS = spaces.DARTS(channels=2, cells=6, operations=(*spaces.darts.OPERATIONS, "noise"))


def of_all(space):
    """A genotype with every operation of the space, in each of its parts."""
    chosen = {}
    for part, (_, rows, options) in space.decisions.items():
        if space.name == "darts":  # two edges a node
            rows = [row for row in rows if row[0] in "01"]
        names = [name for name in options if space.name != "darts" or name != "none"]
        chosen[part] = {row: names[i % len(names)] for i, row in enumerate(rows)}
        assert set(chosen[part].values()) == set(names)
    genotype = Genotype.create(space.name, chosen)
    space.validate(genotype)
    return genotype


def of_plain_arrays(make):
    """A network as trainings put it together."""
    graph, state = nnx.split(nnx.eval_shape(make))
    arrays = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), nnx.to_pure_dict(state))
    return nnx.merge(graph, nnx.State(arrays))


@pytest.mark.parametrize(
    ("space", "auxiliary", "build"),
    [
        (spaces.NASBench201(channels=2, cells=2, stages=2), False, lambda make: make()),
        (DARTS, False, of_plain_arrays),
        (DARTS, True, of_plain_arrays),
    ],
    ids=["nas_bench_201", "darts", "darts with its auxiliary head"],
)
def test_networks_that_are_closed_over_can_be_transformed(space, auxiliary, build):
    genotype = of_all(space)
    network = build(lambda: space.network(genotype, TASK, rngs=nnx.Rngs(0), auxiliary=auxiliary))
    key, images = jax.random.key(1), jnp.ones((3, *TASK.image_shape))

    def logits(images):
        return network(images, key=key).logits

    for function, shape in (
        (jax.jit(logits), (3, 4)),
        (jax.grad(lambda images: logits(images).sum()), images.shape),
        (jax.vmap(lambda image: logits(image[None])[0]), (3, 4)),
    ):
        assert jax.eval_shape(function, images).shape == shape
