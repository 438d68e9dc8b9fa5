"""Reverse-mode differentiation of float64 NumPy, in the few operations that networks need.

No part of it knows JAX or `dnas`: the references of this folder are computed with it.
"""

import functools
import itertools
import operator

import numpy as np


class Var:
    """A float64 array that remembers what it was computed from.

    Args:
      value: the array.
      pulls: for each array it depends on, ``(Var, cotangent of self -> cotangent of that)``.
    """

    __array_priority__ = 1  # NumPy arrays leave mixed operations to this class

    def __init__(self, value, pulls=()):
        self.value, self.pulls = np.asarray(value, np.float64), pulls
        self.shape = self.value.shape

    def __add__(self, other):
        a, b = self, var(other)
        return Var(a.value + b.value, [(a, lambda g: _fit(g, a)), (b, lambda g: _fit(g, b))])

    def __mul__(self, other):
        a, b = self, var(other)
        pulls = [(a, lambda g: _fit(g * b.value, a)), (b, lambda g: _fit(g * a.value, b))]
        return Var(a.value * b.value, pulls)

    def __pow__(self, exponent):
        slope = exponent * self.value ** (exponent - 1)
        return Var(self.value**exponent, [(self, lambda g: g * slope)])

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -var(other)

    def __rsub__(self, other):
        return var(other) - self

    def __truediv__(self, other):
        return self * var(other) ** -1.0

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other):
        """Rows of the last axis with a matrix."""
        a, b = self, var(other)

        def of_matrix(g):
            return a.value.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])

        return Var(a.value @ b.value, [(a, lambda g: g @ b.value.T), (b, of_matrix)])

    def __getitem__(self, index):
        def put(g):
            whole = np.zeros(self.shape)
            whole[index] = g  # basic indices only: no entry twice
            return whole

        return Var(self.value[index], [(self, put)])

    def sum(self, axes=None):
        """The sum over some axes, or all."""
        kept = self.value.sum(axes, keepdims=True).shape
        back = [(self, lambda g: np.broadcast_to(g.reshape(kept), self.shape))]
        return Var(self.value.sum(axes), back)

    def mean(self, axes=None):
        """The mean over some axes, or all."""
        total = self.sum(axes)
        return total * (total.value.size / self.value.size)


def var(x):
    """`x` as a `Var`."""
    return x if isinstance(x, Var) else Var(x)


def _fit(g, like):
    """The cotangent of what was broadcast."""
    g = np.sum(g, tuple(range(np.ndim(g) - len(like.shape))))
    axes = tuple(i for i, n in enumerate(like.shape) if n == 1)
    return np.sum(g, axes, keepdims=True) if axes else g


def relu(x):
    """The positive part."""
    return Var(np.maximum(x.value, 0), [(x, lambda g: g * (x.value > 0))])


def maximum(a, b):
    """The larger of two; the first where they are equal."""
    first = a.value >= b.value
    pulls = [(a, lambda g: g * first), (b, lambda g: g * ~first)]
    return Var(np.where(first, a.value, b.value), pulls)


def concatenate(arrays):
    """Side by side in the last axis."""
    ends = [0, *itertools.accumulate(x.shape[-1] for x in arrays)]
    pulls = [
        (x, lambda g, a=a, b=b: g[..., a:b])
        for x, (a, b) in zip(arrays, itertools.pairwise(ends), strict=True)
    ]
    return Var(np.concatenate([x.value for x in arrays], -1), pulls)


def softmax(x):
    """Along the last axis."""
    e = np.exp(x.value - x.value.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return Var(y, [(x, lambda g: y * (g - (g * y).sum(-1, keepdims=True)))])


def cross_entropy(logits, labels):
    """The mean of the labels' negative logarithmic probabilities."""
    one = np.eye(logits.shape[-1])[labels]
    p = softmax(logits).value
    value = -np.log((p * one).sum(-1)).mean()
    return Var(value, [(logits, lambda g: g * (p - one) / len(labels))])


def taps(x, size, stride, dilation=1, fill=0.0):
    """What every tap of a centred window sees, row by row: ``[batch, rows, columns, channels]``."""
    low = dilation * (size - 1) // 2
    pads = ((0, 0), (low, low), (low, low), (0, 0))
    padded = Var(
        np.pad(x.value, pads, constant_values=fill),
        [(x, lambda g: g[:, low : g.shape[1] - low, low : g.shape[2] - low])],
    )
    height, width = x.shape[1:3]
    return [
        padded[:, i * dilation : i * dilation + height : stride, :, :][
            :, :, j * dilation : j * dilation + width : stride, :
        ]
        for i in range(size)
        for j in range(size)
    ]


def total(terms):
    """The sum of a sequence."""
    return functools.reduce(operator.add, terms)


def gradients(loss, wanted):
    """The gradient of a scalar in each of these `Var`s."""
    order, seen = [], set()
    stack = [(loss, False)]
    while stack:  # what depends on a Var stands behind it in `order`
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent, _ in node.pulls)
    found = {id(loss): np.ones(())}
    for node in reversed(order):
        g = found.get(id(node))
        for parent, pull in node.pulls if g is not None else ():
            found[id(parent)] = found.get(id(parent), 0) + pull(g)
    return [found.get(id(x), np.zeros(x.shape)) for x in wanted]


def variables(tree):
    """The arrays of a nested dictionary as `Var`s, and these in a list, sorted by key."""
    if isinstance(tree, dict):
        both = {key: variables(tree[key]) for key in sorted(tree)}
        leaves = [leaf for _, found in both.values() for leaf in found]
        return {key: sub for key, (sub, _) in both.items()}, leaves
    leaf = Var(tree)
    return leaf, [leaf]
