"""How many multiply-adds with its weights a function takes.

XLA's cost analysis does not serve for that: it counts the body of a loop once, however often it
runs, and native kernels not at all. So the products are counted in the function's jaxpr.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# What a value is computed from: the number of entries of each weight, by position, as often as
# all loops around together use them anew. None where it depends on the inputs, too.
_Origin = dict[int, int] | None


def multiply_adds(function: Callable, weights: Any, *inputs: Any) -> int:
    """Counts the multiply-adds of convolutions and matrix products.

    A product counts with every entry of its kernel for every place where the kernel is put, those
    in the padding too, as publications count. Some kernels are computed with in a larger form than
    they are published in: a separable convolution as a dense one, two side by side as one with
    zeros, narrow ones padded to the width of others. Such a kernel counts with the weights that it
    is made of, if they are fewer than its entries.

    Products of two inputs count, and those of weights with each other. Not counted are products
    with constants, such as poolings, and whatever works elementwise. Loops count as often as they
    run, those of unknown length once, and of branches the most expensive one.

    Args:
      function: ``(weights, *inputs) -> anything``.
      weights: a pytree of arrays, or of their shapes and dtypes.
      *inputs: likewise.
    """
    jaxpr = jax.make_jaxpr(function)(weights, *inputs).jaxpr
    origins: list[_Origin] = [{i: x.size} for i, x in enumerate(jax.tree.leaves(weights))]
    origins += [None] * (len(jaxpr.invars) - len(origins))
    return _walk(jaxpr, origins, 1)[0]


def _walk(jaxpr: Jaxpr, origins: Sequence[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    """The count of a jaxpr that runs so often, and the origins of its results."""
    known: dict[Any, _Origin] = {constant: {} for constant in jaxpr.constvars}
    known |= zip(jaxpr.invars, origins, strict=True)

    def look_up(variables: Iterable) -> list[_Origin]:
        return [{} if isinstance(v, Literal) else known[v] for v in variables]

    total = 0
    for eqn in jaxpr.eqns:
        rule = _RULES.get(eqn.primitive.name, _other)
        count, results = rule(eqn, look_up(eqn.invars), repeats)
        total += count
        known.update(zip(eqn.outvars, results, strict=True))
    return total, look_up(jaxpr.outvars)


def _joined(origins: Iterable[_Origin]) -> _Origin:
    joined: dict[int, int] = {}
    for origin in origins:
        if origin is None:
            return None
        joined |= {weight: max(size, joined.get(weight, 0)) for weight, size in origin.items()}
    return joined


def _other(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    """A call of a function, or a primitive without products."""
    for inner in eqn.params.values():
        if isinstance(inner, ClosedJaxpr):
            inner = inner.jaxpr
        if isinstance(inner, Jaxpr) and len(inner.invars) == len(origins):
            count, results = _walk(inner, origins, repeats)
            if len(results) == len(eqn.outvars):
                return count, results
    return 0, [_joined(origins)] * len(eqn.outvars)


def _scan(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    consts, carries, length = (eqn.params[n] for n in ("num_consts", "num_carry", "length"))
    # Of the scanned weights each turn uses its own part, the constant ones it uses anew.
    again = [None if o is None else {w: n * length for w, n in o.items()} for o in origins[:consts]]
    carry, scanned = origins[consts : consts + carries], origins[consts + carries :]
    while True:
        given = [*again, *carry, *scanned]
        count, results = _walk(eqn.params["jaxpr"].jaxpr, given, repeats * length)
        after = [_joined(pair) for pair in zip(carry, results[:carries], strict=True)]
        if after == carry:
            return count, results
        carry = after


def _while(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    start = eqn.params["cond_nconsts"]
    count, results = _walk(eqn.params["body_jaxpr"].jaxpr, origins[start:], repeats)
    return count, [_joined([*origins, *results])] * len(results)


def _cond(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    walks = [_walk(b.jaxpr, origins[1:], repeats) for b in eqn.params["branches"]]
    results = [_joined([origins[0], *each]) for each in zip(*(r for _, r in walks), strict=True)]
    return max(count for count, _ in walks), results


def _count(kernel: Any, origin: _Origin, places: int, repeats: int) -> int:
    """The count of a product, given at how many places each turn puts its kernel."""
    entries = kernel.aval.size * repeats
    return places * (entries if origin is None else min(entries, sum(origin.values())))


def _dot(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    side = 0 if origins[1] is None else 1
    kernel, contracted = eqn.invars[side], eqn.params["dimension_numbers"][0][side]
    kept = math.prod(n for axis, n in enumerate(kernel.aval.shape) if axis not in contracted)
    places = eqn.outvars[0].aval.size // max(kept, 1)
    if None in origins:
        return _count(kernel, origins[side], places, repeats), [None]
    # Weights with weights, or with features that are the same for all inputs.
    joined = _joined(origins)
    return places * kernel.aval.size * repeats * bool(joined), [joined]


def _convolution(pixels: Callable) -> Callable:
    """The rule of a convolution.

    Args:
      pixels: ``eqn -> (of the images, of the outputs, step between the images' pixels)``, where
        both are sizes with the batch's.
    """

    def rule(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
        images, outputs, spread = pixels(eqn)
        # A transposed convolution puts its kernel at the pixels of its input.
        places = math.prod(images if max(spread, default=1) > 1 else outputs)
        return _count(eqn.invars[1], origins[1], places, repeats), [_joined(origins)]

    return rule


def _separable(eqn: Any, origins: list[_Origin], repeats: int) -> tuple[int, list[_Origin]]:
    """Two products, one after another: each kernel at every place of the outputs."""
    *batch_and_size, _, _ = eqn.outvars[0].aval.shape
    places = math.prod(batch_and_size)
    kernels = zip(eqn.invars[1:], origins[1:], strict=True)
    return sum(_count(k, o, places, repeats) for k, o in kernels), [_joined(origins)]


def _lax_pixels(eqn: Any) -> tuple[list[int], list[int], Sequence[int]]:
    numbers = eqn.params["dimension_numbers"]
    images, outputs = (
        [array.aval.shape[axis] for axis in (spec[0], *spec[2:])]
        for array, spec in ((eqn.invars[0], numbers.lhs_spec), (eqn.outvars[0], numbers.out_spec))
    )
    return images, outputs, eqn.params["lhs_dilation"]


def _own_pixels(eqn: Any) -> tuple[tuple[int, ...], tuple[int, ...], Sequence[int]]:
    images, outputs = (array.aval.shape[:3] for array in (eqn.invars[0], eqn.outvars[0]))
    return images, outputs, eqn.params["window"].spread


_RULES = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "dot_general": _dot,
    "conv_general_dilated": _convolution(_lax_pixels),
    "dnas_conv": _convolution(_own_pixels),
    "dnas_depthwise": _convolution(_own_pixels),
    "dnas_separable": _separable,
}
