"""The numbers of NAS-Bench-201's architectures."""

from dnas.checks import shown
from dnas.genotype import Genotype

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
OPTIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZE = len(OPTIONS) ** len(EDGES)


def number(genotype: Genotype) -> int:
    """The number of a genotype with one part ``'cell'`` (its space's name does not matter).

    Raises:
      ValueError: the genotype is none of NAS-Bench-201; the message says why.
    """
    cell = genotype["cell"] if genotype.parts() == ("cell",) else None
    if cell is None or set(cell) != set(EDGES):
        raise ValueError(
            f"expected a genotype with one part 'cell' that has the edges {EDGES},"
            f" got {shown(dict(genotype.choices))}"
        )
    for edge, option in cell.items():
        if option not in OPTIONS:
            raise ValueError(f"edge {edge!r} has operation {shown(option)}, expected of {OPTIONS}")
    return sum(OPTIONS.index(cell[e]) * len(OPTIONS) ** i for i, e in enumerate(EDGES))


def genotype(number: int) -> Genotype:
    """The genotype of a number: the inverse of `number`.

    Raises:
      ValueError: the number is not in 0 ... 15,624.
    """
    number = int(number)
    if not 0 <= number < SIZE:
        raise ValueError(
            f"an architecture's number must be in 0 ... {SIZE - 1}, got {shown(number)}"
        )
    options = (OPTIONS[number // len(OPTIONS) ** i % len(OPTIONS)] for i in range(len(EDGES)))
    return Genotype.create("nas_bench_201", {"cell": dict(zip(EDGES, options, strict=True))})
