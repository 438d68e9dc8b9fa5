"""Bytes that a compiled program reads and writes, from the text of its optimised HLO.

Every instruction outside of fusions reads its operands and writes its result, as if no cache held
anything between two instructions. Slices only read what they cut out, updates in place only
touch what they write, loops count as often as they run.
"""

import re
from typing import NamedTuple

_BITS = {"pred": 8, "bf16": 16, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64, "c128": 128}
_FREE = frozenset(
    {"parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "after-all"}
    | {"optimization-barrier", "opt-barrier", "partition-id", "replica-id"}
)
_SLICES = frozenset({"slice", "dynamic-slice", "gather"})
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"^\s*([\w\-]+)\(")
_CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Instruction(NamedTuple):
    """One instruction: bytes of its result, and what it names."""

    name: str
    opcode: str
    size: int
    operands: tuple[str, ...]
    called: tuple[str, ...]
    trips: int
    root: bool


def traffic(hlo: str) -> float:
    """Bytes read and written by a program, given the text of `jax.stages.Compiled.as_text`.

    While loops of unknown length count once, of a conditional counts the mean of its branches.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry = current = None
    for line in hlo.splitlines():
        if header := _HEADER.match(line):
            current = computations[header[2]] = {}
            entry = current if header[1] else entry
        elif current is not None and (match := _LINE.match(line)):
            instruction = _parse(match)
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("no ENTRY computation: expected the text of an HLO module")
    return _total(entry, computations, {})


def _parse(match: re.Match) -> Instruction:
    text = match[3]
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:]
    opcode = _OPCODE.match(rest)[1]
    start = rest.index("(")
    inside, attributes = rest[start:], rest[start + _closing(rest[start:]) :]
    inside = inside[: _closing(inside)]
    branches = _BRANCHES.search(attributes)
    called = branches[1].replace("%", "").split(", ") if branches else _CALLED.findall(attributes)
    trips = _TRIPS.search(attributes)
    return Instruction(
        match[2],
        opcode,
        _bytes(shape),
        tuple(re.findall(r"%([\w.\-]+)", inside)),
        tuple(called),
        int(trips[1]) if trips else 1,
        bool(match[1]),
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


def _total(here: dict[str, Instruction], computations: dict, done: dict[int, float]) -> float:
    if id(here) not in done:
        done[id(here)] = sum(_one(i, here, computations, done) for i in here.values())
    return done[id(here)]


def _one(i: Instruction, here, computations, done) -> float:
    if i.opcode in _FREE or i.opcode.endswith("-done"):
        return 0
    if i.opcode in ("while", "call", "conditional"):
        each = [_total(computations[name], computations, done) for name in i.called]
        return i.trips * sum(each) / (len(each) if i.opcode == "conditional" else 1)
    if i.opcode == "fusion":
        return _fusion(computations[i.called[0]])
    if i.opcode in _SLICES:
        return 2 * i.size
    sizes = [here[name].size for name in i.operands]
    if i.opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    return i.size + sum(sizes)


def _fusion(body: dict[str, Instruction]) -> float:
    """What a fusion reads of each parameter and writes of its root."""
    users: dict[str, list[Instruction]] = {name: [] for name in body}
    for i in body.values():
        for name in set(i.operands):
            users[name].append(i)

    def read(name: str) -> float:
        total = 0.0
        for user in users[name]:
            if user.opcode == "bitcast":
                total += read(user.name)
            elif user.opcode in _SLICES:
                total += user.size
            elif user.opcode != "dynamic-update-slice" or user.operands[0] != name:
                return body[name].size
        return min(total, body[name].size)

    def written(i: Instruction) -> float:
        if i.opcode == "tuple":
            return sum(written(body[name]) for name in i.operands)
        if i.opcode == "bitcast":
            return written(body[i.operands[0]])
        return body[i.operands[1]].size if i.opcode == "dynamic-update-slice" else i.size

    reads = sum(read(i.name) for i in body.values() if i.opcode == "parameter")
    return reads + sum(written(i) for i in body.values() if i.root)
