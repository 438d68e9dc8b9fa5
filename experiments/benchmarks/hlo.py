"""The text of an optimised HLO module, read into instructions.

`jax.stages.Compiled.as_text` gives it, from any of XLA's compilers.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping

# What takes no time by itself.
FREE = frozenset(
    {"parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "after-all"}
    | {"optimization-barrier", "opt-barrier", "partition-id", "replica-id"}
)
_BITS = {"pred": 8, "bf16": 16, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"^\s*([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INDEX = re.compile(r"index=(\d+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: its own.
      opcode: what it does.
      size: bytes of its result, without the padding of tiles.
      operands: names of instructions.
      literal: what stands between its parentheses.
      attributes: what stands behind them.
      called: computations that it runs: a body, branches, a fusion's, a reduction's.
      root: whether its result is that of its computation.
    """

    name: str
    opcode: str
    size: int
    operands: tuple[str, ...]
    literal: str
    attributes: str
    called: tuple[str, ...]
    root: bool


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A program.

    Attributes:
      computations: their instructions by name, in order.
      entry: the computation that the program begins with.
    """

    computations: Mapping[str, Computation]
    entry: Computation

    def executed(self) -> Iterator[tuple[Instruction, Computation, float]]:
        """Every instruction outside of fusions, with its computation and how often it runs.

        Loops of unknown length run once, of a conditional every branch alike.
        """
        yield from self._executed(self.entry, 1.0)

    def _executed(self, here: Computation, times: float):
        for i in here.values():
            share = times
            if i.opcode == "while":
                trips = self.trips(here, i)
                share *= 1 if trips is None else trips
            elif i.opcode == "conditional":
                share /= len(i.called)
            elif i.opcode not in ("call", "async-start"):
                yield i, here, times
                continue
            for name in i.called:
                yield from self._executed(self.computations[name], share)

    def inside(self, instruction: Instruction) -> Iterator[Instruction]:
        """All instructions of a fusion, at any depth; of anything else itself."""
        if instruction.opcode != "fusion":
            yield instruction
            return
        for name in instruction.called:
            for i in self.computations[name].values():
                yield from self.inside(i)

    def trips(self, here: Computation, loop: Instruction) -> int | None:
        """How often a while loop runs; None where only the running program knows.

        GPU and CPU compilers write the number down. Else the loop is taken for one that counts
        upwards by one, as those of `jax.lax.scan` do.

        Args:
          here: the computation that holds the loop.
          loop: the loop.
        """
        if known := _TRIPS.search(loop.attributes):
            return int(known[1])
        named = _CONDITION.search(loop.attributes)
        if named is None:
            return None
        condition = self.computations[named[1]]
        test = next(i for i in condition.values() if i.root)
        if test.opcode != "compare" or "direction=LT" not in test.attributes:
            return None
        start = here[loop.operands[0]]
        low, high = (_constant(name, condition, start, here) for name in test.operands)
        return None if low is None or high is None else max(high - low, 0)


def parse(text: str) -> Module:
    """Reads a module.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry = current = None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations[header[2]] = {}
            entry = current if header[1] else entry
        elif current is not None and (match := _LINE.match(line)):
            instruction = _instruction(match)
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("no ENTRY computation: expected the text of an HLO module")
    return Module(computations, entry)


def _instruction(match: re.Match) -> Instruction:
    text = match[3]
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:]
    start = rest.index("(")
    inside, attributes = rest[start:], rest[start + _closing(rest[start:]) :]
    inside = inside[: _closing(inside)]
    branches = _BRANCHES.search(attributes)
    called = branches[1].replace("%", "").split(", ") if branches else _CALLED.findall(attributes)
    return Instruction(
        name=match[2],
        opcode=_OPCODE.match(rest)[1],
        size=_bytes(shape),
        operands=tuple(_NAME.findall(inside)),
        literal=inside[1:-1],
        attributes=attributes,
        called=tuple(called),
        root=bool(match[1]),
    )


def _closing(text: str) -> int:
    """The position behind the parenthesis that closes the one at the start."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced parentheses in {text[:100]!r}")


def _bytes(shape: str) -> int:
    total = 0
    for kind, sizes in _ARRAY.findall(shape):
        bits = _BITS.get(kind) or int((re.search(r"\d+", kind) or [0])[0])
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += count * bits // 8
    return total


def _constant(name: str, condition: Computation, start: Instruction, here: Computation):
    """An integer that a loop's condition compares, as it is before the loop; None if unknown."""
    i = condition[name]
    if i.opcode == "get-tuple-element" and start.opcode == "tuple":
        i, condition = here[start.operands[int(_INDEX.search(i.attributes)[1])]], here
    while i.opcode in ("copy", "bitcast", "convert") and i.operands[0] in condition:
        i = condition[i.operands[0]]
    return int(i.literal) if i.opcode == "constant" and i.literal.lstrip("-").isdigit() else None
