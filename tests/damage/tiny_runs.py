"""A search with a selection, a training and a comparison that take next to no time."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from toys import Rows

from dnas import data as datasets
from dnas import presets
from dnas.genotype import Genotype
from dnas.jobs import compare, search, train
from dnas.selection import Selected
from dnas.space import Decision, NetworkOutput
from dnas.training.recipe import Recipe

OPTIONS = ("none", "skip_connect", "conv")


class Network(nnx.Module):
    """Weighs the mean brightness; the mixing weights say how much."""

    def __init__(self, classes, mix=None):
        self.weight = nnx.Param(jnp.ones((3, classes)))
        self.mix = mix

    def logits(self, x, mix):
        return x.reshape(len(x), -1).mean(-1, keepdims=True) * (mix[0] @ self.weight[...])

    def __call__(self, x, *mix, train=False, key=None, drop_path=None):
        if mix:
            return self.logits(x, mix[0]["cell"])
        return NetworkOutput(self.logits(x, jnp.asarray(self.mix)))


@dataclasses.dataclass(frozen=True)
class Tiny(Rows):
    """One row of three options."""

    name = "tiny"
    width: int = 3

    @property
    def decisions(self):
        return {"cell": Decision("cell", ("0->1",), OPTIONS)}

    def supernet(self, task, *, rngs):
        return Network(task.classes)

    def network(self, genotype, task, *, rngs, auxiliary=False):
        place = OPTIONS.index(genotype["cell"]["0->1"])
        return Network(task.classes, (tuple(float(i == place) for i in range(3)),))

    def genotype(self, option):
        return Genotype.create(self.name, {"cell": {"0->1": option}})


class State(NamedTuple):
    params: Any
    alphas: Any
    key: jax.Array
    step: jax.Array


class Method(NamedTuple):
    init: Any
    step: Any
    mix: Any
    frozen: Any = None


# Functions of the module, so that what a first run compiled serves all others.
def init(key):
    params = nnx.to_pure_dict(nnx.state(Network(2), nnx.Param))
    return State(params, {"cell": 0.1 * jax.random.normal(key, (1, 3))}, key, jnp.int32(0))


def mix(alphas, step):
    return {"cell": jax.nn.softmax(alphas["cell"])}


def step(state, train_batch, valid_batch):
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (1, 3))
    bright = train_batch["image"].mean() / 255
    alphas = {"cell": state.alphas["cell"] + 0.1 * bright * noise}
    params = jax.tree.map(lambda w: w * (1 + 0.01 * bright), state.params)
    sums = {"loss": bright, "hits": jnp.float32(0), "count": jnp.float32(1)}
    return State(params, alphas, state.key, state.step + 1), {"train": sums}


def select(trained):
    every = {"cell": np.eye(3, dtype=np.float32)[:, None]}
    record, supernet = [], trained.supernet
    state = supernet.state
    for count in range(3):
        losses = supernet.validate(state, every).metrics["loss"]
        record.append({"losses": losses.tolist()})
        state = supernet.finetune(state, {"cell": every["cell"][count]}, 1)
    return Selected(Tiny().genotype(OPTIONS[int(np.argmax(losses))]), record)


@dataclasses.dataclass(frozen=True)
class Preset(presets.Preset):
    epochs: int = 3
    batch_size: int = 4
    selection: Any = select

    def check(self, space, task):
        del space, task  # nothing of it is searched

    def build(self, *_, **__):
        return Method(init, step, mix)

    def weight_optimizer(self, steps):
        return optax.sgd(0.1)


def some_data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (26, 3, 3, 1), np.uint8)
    return datasets.from_arrays(images[:20], np.arange(20) % 2, images[20:], np.arange(6) % 2)


RECIPE = Recipe(epochs=2, batch_size=10, learning_rate=0.1)
FOUND = Tiny().genotype("conv")


def run_search(folder):
    found = search.search(Tiny(), some_data(), Preset(), workdir=folder, progress=False, chunk=2)
    alphas = {name: array.tobytes() for name, array in found.trajectory.items()}
    return found.genotype, found.history, alphas, found.selection, found.epoch


def run_training(folder):
    done = train.train(Tiny(), FOUND, some_data(), RECIPE, workdir=folder, progress=False)
    weights = [np.asarray(x).tobytes() for x in jax.tree.leaves(nnx.state(done.network))]
    return done.test, done.parameters, done.history, weights


def run_comparison(folder):
    found = compare.compare(
        *(Tiny(), FOUND, some_data(), dataclasses.replace(RECIPE, epochs=1)),
        random=1, seeds=(0,), workdir=folder, progress=False,
    )  # fmt: skip
    return found.as_dict()


RUNS = {"search": run_search, "training": run_training, "comparison": run_comparison}


def newest(folder, name="checkpoints"):
    return max((folder / name).iterdir(), key=lambda path: int(path.name))
