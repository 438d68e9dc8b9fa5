"""Bytes that a compiled program reads and writes, from the text of its optimised HLO.

Every instruction outside of fusions reads its operands and writes its result, as if no cache held
anything between two instructions. Slices only read what they cut out, updates in place only
touch what they write, loops count as often as they run.
"""

from experiments.benchmarks import hlo
from experiments.benchmarks.hlo import Computation, Instruction, Module

_SLICES = frozenset({"slice", "dynamic-slice", "gather"})


def traffic(text: str) -> float:
    """Bytes read and written by a program, given the text of `jax.stages.Compiled.as_text`.

    While loops of unknown length count once, of a conditional counts the mean of its branches.
    """
    module = hlo.parse(text)
    return sum(times * _one(i, here, module) for i, here, times in module.executed())


def _one(i: Instruction, here: Computation, module: Module) -> float:
    if i.opcode in hlo.FREE or i.opcode.endswith("-done"):
        return 0
    if i.opcode == "fusion":
        return _fusion(module.computations[i.called[0]])
    if i.opcode in _SLICES:
        return 2 * i.size
    sizes = [here[name].size for name in i.operands]
    if i.opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    return i.size + sum(sizes)


def _fusion(body: Computation) -> float:
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
