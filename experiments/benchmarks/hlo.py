"""The text of an optimised HLO module, read into instructions.

`jax.stages.Compiled.as_text` gives it, from any of XLA's compilers.
"""

import dataclasses
import re
from collections.abc import Mapping

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
        first = _constant(test.operands[0], condition, start, here, carried=True)
        low = first if low is None else low
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
