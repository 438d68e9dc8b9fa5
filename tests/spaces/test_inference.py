"""A network that does not train is a function: JAX may transform it where it is closed over."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas import spaces
from dnas.genotype import Genotype
from dnas.space import Mixing
from dnas.tasks import Classification, LanguageModelling, Regression

TASK = Classification((8, 8, 3), 4)
CELL = spaces.NASBench201(channels=2, cells=2, stages=2)
S4 = spaces.DARTS.subset("s4", channels=2, cells=3, nodes=1)
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


def check_function(network, function, inputs, outputs):
    """It can be compiled, differentiated and mapped, and leaves the network as it was.

    Args:
      network: what `function` closes over.
      function: ``inputs -> outputs``, of a whole batch.
      inputs: floating-point numbers, ``[batch, ...]``.
      outputs: the shape of one output.
    """
    before = jax.tree.leaves(nnx.state(network))
    for transformed, shape in (
        (jax.jit(function), (len(inputs), *outputs)),
        (jax.grad(lambda inputs: function(inputs).sum()), inputs.shape),
        (jax.vmap(lambda one: function(one[None])[0]), (len(inputs), *outputs)),
    ):
        assert jax.eval_shape(transformed, inputs).shape == shape
    after = jax.tree.leaves(nnx.state(network))
    assert len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("space", "auxiliary", "build"),
    [
        (CELL, False, lambda make: make()),
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

    check_function(network, logits, images, (4,))


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(single_path=True)], ids=["mixed", "single"])
@pytest.mark.parametrize("space", [CELL, S4], ids=["nas_bench_201", "s4"])
def test_supernets_that_are_closed_over_can_be_transformed(space, mixing):
    space = dataclasses.replace(space, mixing=mixing)
    supernet = of_plain_arrays(lambda: space.supernet(TASK, rngs=nnx.Rngs(0)))
    mix = {name: jnp.eye(len(d.rows), len(d.options)) for name, d in space.decisions.items()}
    key, images = jax.random.key(1), jnp.ones((3, *TASK.image_shape))
    check_function(supernet, lambda images: supernet(images, mix, key=key), images, (4,))


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["no key", "key"])
def test_dense_networks(key):
    space, task, rows = spaces.Dense(depth=2, dropouts=(0.3,)), Regression(("a", "b")), 3
    network = space.network(space.sample(np.random.default_rng(0)), task, rngs=nnx.Rngs(0))
    outputs = jax.eval_shape(lambda: network(jnp.ones((rows, 2)))).logits.shape[1:]
    check_function(network, lambda x: network(x, key=key).logits, jnp.ones((rows, 2)), outputs)
    supernet = space.supernet(task, rngs=nnx.Rngs(0))
    mix = {name: jnp.ones((len(d.rows), len(d.options))) for name, d in space.decisions.items()}
    check_function(supernet, lambda x: supernet(x, mix, key=key), jnp.ones((rows, 2)), outputs)


def test_recurrent_networks():
    space, task = spaces.Recurrent(channels=4, nodes=2), LanguageModelling(5)
    tokens, carry = jnp.ones((3, 6), jnp.int32), jnp.ones((3, 4))
    network = space.network(space.sample(np.random.default_rng(0)), task, rngs=nnx.Rngs(0))
    supernet = space.supernet(task, rngs=nnx.Rngs(0))
    mix = {name: jnp.ones((len(d.rows), len(d.options))) for name, d in space.decisions.items()}
    for net, further in ((network, {"train": False}), (supernet, {"mix": mix})):

        def carried(carry, net=net, further=further):
            return net((tokens[: len(carry)], carry), **further)[1]

        check_function(net, carried, carry, (4,))


def test_random_operations_ask_for_a_key():
    space = spaces.DARTS(channels=2, cells=3, operations=("noise",))
    network = of_plain_arrays(
        lambda: space.network(space.sample(np.random.default_rng(0)), TASK, rngs=nnx.Rngs(0))
    )
    with pytest.raises(ValueError, match="'noise' needs a PRNG key: call the network with key="):
        jax.eval_shape(lambda x: network(x).logits, jnp.ones((2, *TASK.image_shape)))
