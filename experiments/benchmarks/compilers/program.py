"""What a compiled program consists of, by the text of its optimised HLO.

Everything here is what a compiler wrote down. Nothing of it was measured.
"""

import re
from collections import Counter

from experiments.benchmarks import hlo
from experiments.benchmarks.hlo import Instruction, Module

_COLLECTIVES = frozenset(
    {"all-reduce", "all-gather", "all-to-all", "reduce-scatter"}
    | {"collective-permute", "collective-broadcast", "ragged-all-to-all"}
)
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_TRITON = re.compile(r'"kind":"__triton\w*gemm')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
# Custom calls by which the TPU compiler talks to itself.
_REMARKS = frozenset(
    {"AllocateBuffer", "ConcatBitcast"}
    | {"AssumeGatherIndicesInBound", "GatherScatterIndicesBitpacked"}
)
_MOVES = frozenset({"copy", "transpose", "reshape", "slice", "pad", "concatenate", "broadcast"})


def launches(module: Module) -> Counter[str]:
    """How many kernels a program starts, by kind; of a TPU's one kernel, the operations.

    The kinds are ``fusions``, ``convolutions`` (cuDNN's, or those that are no part of a fusion),
    ``products`` (cuBLAS's, Triton's, or no part of a fusion), ``custom`` for other custom calls,
    and ``other`` for single operations, such as copies. Collectives do not count.
    """
    counts: Counter[str] = Counter()
    for i, _, times in module.executed():
        if not (i.opcode in hlo.FREE or i.opcode.endswith("-done") or _collective(i)):
            counts[_kind(i)] += times
    del counts[""]
    return Counter({kind: round(count) for kind, count in counts.items()})


def collectives(module: Module) -> tuple[int, int]:
    """How many collectives a program runs, and the bytes that one device gives to all of them."""
    count, size = 0.0, 0.0
    for i, here, times in module.executed():
        if _collective(i):
            count += times
            size += times * sum(here[name].size for name in i.operands)
        elif i.opcode == "fusion":
            body = module.computations[i.called[0]]
            for j in filter(_collective, body.values()):
                count += times
                size += times * sum(body[name].size for name in j.operands)
    return round(count), round(size)


def cycles(module: Module) -> Counter[str]:
    """Cycles that the TPU compiler expects a program to take, by kind of operation.

    The kinds are ``convolutions`` (with matrix products), ``reductions`` (of what holds no
    convolution), ``moves`` (copies and the like), and ``elementwise``. Operations that the compiler
    has no figure for, such as collectives, are left out. Empty for other compilers.
    """
    counts: Counter[str] = Counter()
    for i, _, times in module.executed():
        if expected := _CYCLES.search(i.attributes):
            counts[_work(i, module)] += round(times * int(expected[1]))
    return counts


def _collective(i: Instruction) -> bool:
    return i.opcode.removesuffix("-start") in _COLLECTIVES


def _kind(i: Instruction) -> str:
    if i.opcode == "fusion":
        return "products" if _TRITON.search(i.attributes) else "fusions"
    if i.opcode == "custom-call":
        target = _TARGET.search(i.attributes)[1]
        if target in _REMARKS:
            return ""
        names = {"cudnn$conv": "convolutions", "cublas": "products"}
        return next((kind for name, kind in names.items() if name in target), "custom")
    return {"convolution": "convolutions", "dot": "products"}.get(i.opcode, "other")


def _work(i: Instruction, module: Module) -> str:
    opcodes = {j.opcode for j in module.inside(i)}
    if opcodes & {"convolution", "dot"}:
        return "convolutions"
    if opcodes & {"reduce", "reduce-window"}:
        return "reductions"
    return "moves" if opcodes <= _MOVES | hlo.FREE | {"fusion"} else "elementwise"
