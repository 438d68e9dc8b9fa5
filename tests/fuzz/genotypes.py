"""Genotypes as JSON and as published text, whole and damaged."""

import json
import random

import numpy as np
from fuzz.outcomes import Input

from dnas import Genotype, spaces

SPACES = (spaces.NASBench201(), spaces.DARTS(), spaces.DARTS.subset("s1"))
HUGE = "x" * 1_000_000
VALUES = (
    *(None, True, 0, 1, -1, 1.0, 2, 10**30, "", "none", "0->1", "9->1", "1->1", "\x00", "\ud800"),
    *([], {}, [[]], {"a": {}}, {"cell": {}}, {"cell": {"0->1": 1}}, HUGE, {HUGE: {HUGE: HUGE}}),
)
BAD_TEXTS = (
    *("", " ", "{", "[]", "null", "1", "NaN", "Infinity", "[" * 100_000, '{"a":' * 100_000),
    *('{"schema": ' + "9" * 5000 + "}", '{"schema": 1, "schema": 1}', "{}" + "{}"),
    *("(" * 500, "-" * 50_000 + "1", "Genotype(" + "[" * 300, "Genotype()", "|", "+", "|+|", HUGE),
    *("Genotype(normal=range(10**9))", "__import__('os').system('true')", "|none~0|+" * 20_000),
)


def inputs(rng: random.Random, number: int) -> list[Input]:
    """So many genotypes."""
    made = [Input(text, lambda text=text: _read(SPACES[0], text), True) for text in BAD_TEXTS]
    made += [Input(f"DARTS {t}", lambda t=t: _read(SPACES[1], t), True) for t in BAD_TEXTS]
    while len(made) < number:
        space = rng.choice(SPACES)
        genotype = space.sample(np.random.default_rng(rng.getrandbits(32)))
        text = rng.choice([genotype.to_json(), space.format(genotype)])
        bad = False
        if text.startswith("{") and rng.random() < 0.6:
            text, bad = _restructured(rng, text)
        elif rng.random() < 0.95:
            text = damaged(rng, text)
        made.append(Input(text, lambda space=space, text=text: _read(space, text), bad))
    return made


def _read(space, text):
    genotype = Genotype.from_json(text) if text.strip()[:1] in "{[" else space.parse(text)
    space.validate(genotype)
    assert Genotype.from_json(genotype.to_json()) == genotype


def _restructured(rng: random.Random, text: str) -> tuple[str, bool]:
    """JSON in which a value is another, or a key occurs twice."""
    data = json.loads(text)
    part = rng.choice(list(data["choices"]))
    row = rng.choice(list(data["choices"][part]))
    if rng.random() < 0.2:
        pair = f'"{row}": "skip_connect"'
        return text.replace(f'"{row}":', f'{pair}, "{row}":', 1), True
    value = rng.choice(VALUES)
    place = rng.choice([data, data["choices"], data["choices"][part]])
    key = rng.choice(list(place))
    place[key] = value
    fits = value == "none" or (key == "schema" and type(value) is int and value == 1)
    return json.dumps(data), not fits


def damaged(rng: random.Random, text: str) -> str:
    """Text with one to three places cut out, doubled, or overwritten."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 1, 2, 8, 50]))
        piece = text[start:end]
        new = rng.choice(["", piece * 2, piece * 50, rng.choice("\"'{}[](),:|~+->\\\x00é٣0 9\n")])
        text = text[:start] + new + text[end:]
    return text
