"""What a step computes and moves, and how fast this machine could do that.

XLA's own cost analysis does not serve here: it counts the body of a loop once, however often it
runs, and custom calls, such as native kernels, not at all. So operations are counted in the step's
jaxpr, times the lengths of its scans, and traffic in the compiled program's text, times the trip
counts of its loops.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.nn.kernels import native, primitives
from dnas.nn.kernels.window import Window


class Machine(NamedTuple):
    """Rates of a machine.

    Attributes:
      flops: of a large matrix product, a second.
      bytes: read and written by scaling a large array, a second.
    """

    flops: float
    bytes: float


class Bound(NamedTuple):
    """What a program's arithmetic and traffic take at the machine's rates.

    Attributes:
      seconds: the larger one of the two.
      limit: ``'compute'`` or ``'memory'``, whichever takes longer.
    """

    seconds: float
    limit: str


def bound(flops: float, traffic: float, machine: Machine) -> Bound:
    """The roofline (Williams et al., 2009).

    No bound in two cases: convolutions count as direct ones, while native kernels three wide take
    two thirds of these products; and traffic counts as if no cache kept anything.
    """
    compute, memory = flops / machine.flops, traffic / machine.bytes
    return Bound(max(compute, memory), "compute" if compute >= memory else "memory")


def measure_machine(dtype: Any = jnp.float32) -> Machine:
    """Measures matrix products of 2048x2048 and a 256 MB array that is scaled in place."""

    def best(function: Callable, x: jax.Array) -> float:
        compiled = jax.jit(function, donate_argnums=0)
        x, seconds = jax.block_until_ready(compiled(x)), []
        for _ in range(10):
            start = time.perf_counter()
            x = jax.block_until_ready(compiled(x))
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    n, length = 2048, 2**26
    products = best(lambda x: (x @ x) * (1 / n), jnp.ones((n, n), dtype))
    copies = best(lambda x: x * 0.999, jnp.ones(length, jnp.float32))
    return Machine(2 * n**3 / products, 2 * 4 * length / copies)


def flops(closed: Any) -> float:
    """Floating-point operations of a jaxpr's matrix products and convolutions, two a product.

    Taps in the padding and between spread pixels do not count. Loops count as often as they run,
    while loops of unknown length once; of a switch counts the mean of its branches.
    """
    return _flops(closed.jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name in primitives.FORMS:
            # The gradients of a separable convolution's two kernels have half of their products in
            # common with other derivatives, which XLA computes once.
            total += _flops(_lowered(eqn)) / (2 if params.get("slot") in (1, 2) else 1)
        elif name in _COUNTS:
            shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
            total += 2 * _COUNTS[name](*shapes, params)
        elif name == "cond":
            total += float(np.mean([_flops(branch.jaxpr) for branch in params["branches"]]))
        else:
            inner = sum(_flops(getattr(sub, "jaxpr", sub)) for sub in _subjaxprs(params))
            total += inner * (params["length"] if name == "scan" else 1)
    return total


def _lowered(eqn: Any) -> Any:
    """What a primitive that is made of others becomes on this machine."""
    plain, fast = primitives.FORMS[eqn.primitive.name]
    here = native.ready() and jax.default_backend() == "cpu"
    form = fast if here and eqn.invars[0].aval.dtype == jnp.float32 else plain
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    return jax.make_jaxpr(functools.partial(form, **eqn.params))(*shapes).jaxpr


def _subjaxprs(params: dict[str, Any]) -> list[Any]:
    leaves = jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
    return [leaf for leaf in leaves if hasattr(leaf, "eqns")]


def _dot(x, y, out, params):
    del y
    (contracted, _), _ = params["dimension_numbers"]
    return np.prod(out) * np.prod([x[i] for i in contracted])


def _taps(image, kernel, output, window: Window) -> int:
    """Pairs of outputs and taps that meet a pixel."""
    product = 1
    for i in (0, 1):
        places = np.arange(output[i])[:, None] * window.stride[i] - window.padding[i][0]
        places = places + np.arange(kernel[i]) * window.dilation[i]
        inside = (places >= 0) & (places <= (image[i] - 1) * window.spread[i])
        product *= int((inside & (places % window.spread[i] == 0)).sum())
    return product


def _lax_conv(x, kernel, out, params):
    numbers = params["dimension_numbers"]
    window = Window(
        params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"]
    )
    (xs, ks, os) = ([s[i] for i in n] for n, s in zip(numbers, (x, kernel, out), strict=True))
    return os[0] * os[1] * ks[1] * _taps(xs[2:], ks[2:], os[2:], window)


def _conv(x, kernel, out, params):
    return x[0] * kernel[2] * out[3] * _taps(x[1:3], kernel[:2], out[1:3], params["window"])


def _conv_kernel(x, ct, out, params):
    return x[0] * out[2] * ct[3] * _taps(x[1:3], params["size"], ct[1:3], params["window"])


def _depthwise(x, kernel, out, params):
    return x[0] * kernel[2] * _taps(x[1:3], kernel[:2], out[1:3], params["window"])


def _depthwise_kernel(x, ct, out, params):
    return x[0] * out[2] * _taps(x[1:3], params["size"], ct[1:3], params["window"])


# Multiplications, given the shapes of the inputs and of the output.
_COUNTS = {
    "dot_general": _dot,
    "conv_general_dilated": _lax_conv,
    "dnas_conv": _conv,
    "dnas_conv_kernel": _conv_kernel,
    "dnas_depthwise": _depthwise,
    "dnas_depthwise_kernel": _depthwise_kernel,
}
