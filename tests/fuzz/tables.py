"""Result tables of NAS-Bench-201 with damaged cells, lines and headers."""

import itertools
import pathlib
import random

from fuzz.genotypes import damaged
from fuzz.outcomes import Input

from dnas.benchmarks import NASBench201
from dnas.benchmarks.nas_bench_201 import OPTIONS

HEADER = "arch_str,c10_test_200ep,c10_valid_200ep,params_m_c10"
BAD_CELLS = (
    *("", "-5", "101", "1e10", "1_0", "٩٤", "nan", "inf", "-inf", "0x10", "9" * 5000, "1e999"),
    *('"', '"9', "x" * 200_000, "9 9", "9;9", "9,9", "None", "true", "\uff19\uff14", "\x00", "\n"),
)
LINES = [
    f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|,{50 + len(a + d)},{40 + len(b)},0.5"
    for a, b, c, d, e, f in itertools.product(OPTIONS, repeat=6)
]


def inputs(rng: random.Random, number: int, folder: pathlib.Path) -> list[Input]:
    """So many tables, written one after the other to the same file."""
    made = []
    for index in range(number):
        lines, header, bad = list(LINES), HEADER, True
        place = rng.randrange(50)
        kind = (
            rng.choice([*["cell"] * 8, "line", "header", "fractions", "cut"]) if index else "whole"
        )
        if kind == "cell":
            cells = lines[place].split(",")
            cells[rng.randrange(len(cells))] = BAD_CELLS[index % len(BAD_CELLS)]
            lines[place] = ",".join(cells)
        elif kind == "line":
            lines[place], bad = damaged(rng, lines[place]), False
        elif kind == "header":
            header, bad = damaged(rng, header), False
        elif kind == "fractions":
            lines = [line.replace(",5", ",0.5").replace(",4", ",0.4") for line in lines]
        elif kind == "cut":
            lines = lines[:place]
        else:
            bad = False
        made.append(
            Input(
                f"{kind} {header} / {lines[place : place + 1]}", _read(folder, header, lines), bad
            )
        )
    return made


def _read(folder, header, lines):
    def give():
        path = folder / "table.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        NASBench201(path)

    return give
