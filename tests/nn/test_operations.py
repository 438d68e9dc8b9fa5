"""What operations are, whatever they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas.nn import operations
from dnas.nn.layers import batch_statistics
from dnas.space import Traits
from dnas.spaces import DARTS, NASBench201

RANDOM = ("noise",)


@pytest.mark.parametrize("name", operations.known())
def test_traits_are_what_the_operations_do(name):
    rngs = nnx.Rngs(0)
    module = operations.make(name, 4, 1, norm=batch_statistics(affine=False), rngs=rngs)
    traits = operations.traits(name)
    assert traits.weights == bool(jax.tree.leaves(nnx.state(module, nnx.Param)))
    if traits.weights or name in RANDOM:
        assert not traits.idle
    else:
        x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 4)), jnp.float32)
        assert traits.identity == bool((module(x) == x).all())
        assert traits.zero == bool((module(x) == 0).all())


class Halve(nnx.Module):
    def __init__(self, channels, stride, *, norm, rngs):
        self.norm = norm(channels)

    def __call__(self, x, use_running_average=False, key=None):
        return self.norm(x / 2, use_running_average=use_running_average)


def test_an_operation_of_ones_own_has_weights_if_its_module_has(monkeypatch):
    for registry in ("_OPERATIONS", "_TRAITS"):
        monkeypatch.setattr(operations, registry, dict(getattr(operations, registry)))
    operations.register("halve", Halve)
    operations.register("dense", operations._OPERATIONS["nor_conv_1x1"])
    operations.register("pass", operations.Identity, Traits(identity=True, weights=False))
    assert operations.traits("halve") == Traits(weights=False)
    assert operations.traits("dense") == Traits()
    decision = NASBench201(operations=("halve", "dense", "pass")).decisions["cell"]
    assert [traits.identity for traits in decision.traits] == [False, False, True]
    with pytest.raises(ValueError, match="unknown operations"):
        operations.traits("missing")


def test_tables_know_the_traits_of_their_options():
    tables = DARTS.subset("s3").decisions
    assert [traits.zero for traits in tables["normal"].traits] == [True, False, False]
    part, rows, options = tables["normal"]  # three names still are a table
    assert part == "normal" and len(rows) == 14 and len(options) == 3
