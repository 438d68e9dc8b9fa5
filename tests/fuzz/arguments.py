"""Arrays of a user's own, and arguments of the functions of Python's face."""

import random

import numpy as np
from fuzz.outcomes import Input

import dnas
from dnas import data, presets, spaces
from dnas.gradient import relax
from dnas.training import published

DATA = data.digits()
SPACE = spaces.NASBench201(channels=2, cells=1, stages=1)
GENOTYPE = SPACE.sample(np.random.default_rng(0))
IMAGES, LABELS = DATA.train.images[:60], DATA.train.labels[:60] % 2
ANYTHING = (
    *(0, -1, 10**20, 2**32, 0.5, float("inf"), float("nan"), True, "x", "x" * 100_000, b"x"),
    *((), (1, 2), [1], {}, {"a": 1}, object(), object, len, lambda: 1, lambda x: x, np.zeros(3)),
    *(SPACE, DATA, GENOTYPE, presets.darts, published.darts_recipe, relax.softmax(), spaces.DARTS),
)
SEARCH = {"space": SPACE, "data": DATA, "preset": presets.darts(epochs=1)}
TRAIN = {"space": SPACE, "genotype": GENOTYPE, "data": DATA}
TRAIN |= {"recipe": published.nas_bench_201_recipe(epochs=1, augment=data.Augment())}
OPTIONS = ("seed", "epochs", "batch_size", "train_limit", "augment", "parallel", "chunk")
ARRAYS = (
    *(IMAGES.astype(float), IMAGES / 255, IMAGES[:0], IMAGES[..., 0], IMAGES.tolist(), IMAGES[0]),
    *(
        LABELS - 1,
        LABELS.astype(np.int64) + 2**31,
        LABELS.astype(np.uint64) + 2**32,
        LABELS * 255,
        LABELS[:0],
    ),
    *(LABELS.astype("timedelta64[s]"), LABELS.astype(str), LABELS.astype(object), LABELS > 0),
    *(
        LABELS.astype(complex),
        np.eye(2)[LABELS],
        LABELS[:, None],
        LABELS * np.nan,
        np.ma.array(LABELS),
    ),
    *(np.zeros((60, 1, 8, 8), np.uint8), [np.zeros((3, 3)), np.zeros((4, 4))], np.float64(3)),
)


def inputs(rng: random.Random, number: int) -> list[Input]:
    """So many calls; whoever calls them ends a job where it would compile."""
    made = []
    while len(made) < number:
        made.append(rng.choice([_arrays, _search, _train, _preset, _space, _recipe])(rng))
    return made


def _arrays(rng):
    arrays = [IMAGES, LABELS, IMAGES, LABELS]
    place, value = rng.randrange(4), rng.choice(ARRAYS + ANYTHING)
    arrays[place] = value
    label = f"from_arrays {place} {type(value).__name__} {getattr(value, 'dtype', '')}"
    return Input(f"{label} {str(value)[:60]}", lambda: data.from_arrays(*arrays))


def _search(rng):
    name, value = rng.choice([*SEARCH, *OPTIONS]), rng.choice(ANYTHING)
    given = SEARCH | {name: value}
    return Input(f"search {name}={str(value)[:60]!r}", lambda: dnas.search(**given, progress=False))


def _train(rng):
    name, value = rng.choice([*TRAIN, "seed", "parallel", "chunk"]), rng.choice(ANYTHING)
    given = TRAIN | {name: value}
    return Input(f"train {name}={str(value)[:60]!r}", lambda: dnas.train(**given, progress=False))


def _preset(rng):
    make = rng.choice(list(presets.PRESETS.values()))
    name = rng.choice([*vars(presets.darts()), "lr"])
    value = rng.choice(ANYTHING)

    def give():
        dnas.search(SPACE, DATA, make(**{name: value}), epochs=4, progress=False)

    return Input(f"{make.__name__}({name}={str(value)[:60]!r})", give)


def _space(rng):
    make = rng.choice([spaces.NASBench201, spaces.DARTS])
    name, value = rng.choice(list(vars(make()))), rng.choice([*ANYTHING, 40, 10**6, "none"])
    return Input(f"{make.__name__}({name}={str(value)[:60]!r})", lambda: make(**{name: value}))


def _recipe(rng):
    name, value = rng.choice([*vars(TRAIN["recipe"]), "lr"]), rng.choice(ANYTHING)
    give = lambda: published.darts_recipe(**{name: value})  # noqa: E731
    return Input(f"recipe {name}={str(value)[:60]!r}", give)
