"""What spaces of tests share: the whole contract, for tables whose rows all choose."""

import jax.numpy as jnp
from flax import nnx

from dnas import discretize
from dnas.choices import one_hot
from dnas.genotype import Genotype
from dnas.space import NetworkOutput
from dnas.spaces import validation


class Blind(nnx.Module):
    """Logits that depend on every mixing weight, and on the image's mean."""

    def __init__(self, classes):
        self.weight = nnx.Param(jnp.ones(classes))

    def __call__(self, x, mix, key=None):
        total = sum(
            (jnp.arange(1.0, 1 + table.shape[-1]) * table).sum((-1, -2)) for table in mix.values()
        )
        return total * x.reshape(len(x), -1).mean(-1, keepdims=True) * self.weight[...]


class Fixed(nnx.Module):
    """A supernet with a single 1 in each row of its mix."""

    def __init__(self, supernet, mix):
        self.supernet = supernet
        self.mix = nnx.data({name: jnp.asarray(t, jnp.float32) for name, t in mix.items()})

    def __call__(self, x, train=False, key=None, drop_path=None):
        return NetworkOutput(self.supernet(x, self.mix, key))


class Rows:
    """A space of which `name` and `decisions` are given, and `supernet` where that matters."""

    def supernet(self, task, *, rngs):
        return Blind(task.classes)

    def network(self, genotype, task, *, rngs, auxiliary=False):
        self.validate(genotype)
        return Fixed(self.supernet(task, rngs=rngs), one_hot(self, genotype))

    def discretize(self, mix):
        choices = {}
        for name, decision in self.decisions.items():
            chosen = discretize.argmax(mix[name], decision)
            choices.setdefault(decision.part, {}).update(chosen)
        return Genotype.create(self.name, choices)

    def sample(self, rng):
        choices = {}
        for decision in self.decisions.values():
            chosen = {row: str(rng.choice(decision.options)) for row in decision.rows}
            choices.setdefault(decision.part, {}).update(chosen)
        return Genotype.create(self.name, choices)

    def validate(self, genotype):
        validation.check_rows(genotype, self.name, self.decisions)
