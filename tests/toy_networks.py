"""A space of tiny networks, and a data set that they can learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toys import Rows

from dnas import data as datasets
from dnas.genotype import Genotype
from dnas.nn.kernels.norm import RunningNorm
from dnas.space import Decision, NetworkOutput

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sin": jnp.sin}


class ToyNetwork(nnx.Module):
    """One hidden layer; the running average `seen` is the last drop path probability."""

    def __init__(self, activation, task, channels, auxiliary, rngs):
        inputs = int(np.prod(task.inputs.shape))
        self.activation = activation
        self.hidden = nnx.Linear(inputs, channels, rngs=rngs)
        self.norm = RunningNorm(channels, rngs=rngs)
        self.classifier = nnx.Linear(channels, task.classes, rngs=rngs)
        self.head = nnx.Linear(inputs, task.classes, rngs=rngs) if auxiliary else None
        self.seen = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x, train=False, key=None, drop_path=None):
        x = x.reshape(len(x), -1)
        y = self.norm(self.hidden(x), use_running_average=not train)
        logits = self.classifier(ACTIVATIONS[self.activation](y))
        if train:
            self.seen[...] = jnp.float32(0.0 if drop_path is None else drop_path)
        return NetworkOutput(logits, self.head(x) if train and self.head else None)


@dataclasses.dataclass(frozen=True)
class Toy(Rows):
    channels: int = 4
    cells: int = 1
    head: bool = True

    name = "toy"

    @property
    def decisions(self):
        return {"cell": Decision("cell", ("only",), tuple(ACTIVATIONS))}

    def genotype(self, activation):
        return Genotype.create(self.name, {"cell": {"only": activation}})

    def network(self, genotype, task, *, rngs, auxiliary=False):
        if auxiliary and not self.head:
            raise ValueError("no auxiliary head")
        return ToyNetwork(genotype["cell"]["only"], task, self.channels, auxiliary, rngs)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture(scope="session")
def stripes():
    """30 train and 11 test images of 4x3 pixels: the brightest row is the class."""

    def draw(rng, number):
        labels = np.arange(number, dtype=np.int32) % 4
        images = rng.integers(0, 60, (number, 4, 3, 1), np.uint8)
        images[np.arange(number), labels] += 190
        return images, labels

    rng = np.random.default_rng(0)
    return datasets.from_arrays(*draw(rng, 30), *draw(rng, 11), name="stripes")
