"""The published networks in float64 NumPy, operation by operation and cell by cell.

Written after the papers' definitions (Liu et al., 2019; Dong and Yang, 2020; Xu et al., 2020).
Weights are nested dictionaries of `Var`, shaped as `dnas` keeps them: only arrays are shared.
"""

import numpy as np
import tape

EPSILON = 1e-5


def edges(inputs, nodes):
    """All edges of a cell, by target and then source."""
    return [(i, j) for j in range(inputs, inputs + nodes) for i in range(j)]


def conv(x, kernel, stride=1, dilation=1):
    """A convolution with ``[height, width, channels_in, channels_out]``."""
    size = kernel.shape[0]
    seen = tape.taps(x, size, stride, dilation)
    return tape.total(y @ kernel[t // size, t % size] for t, y in enumerate(seen))


def depthwise(x, kernel, stride, dilation):
    """A convolution of every channel with its own ``[height, width, channels]``."""
    size = kernel.shape[0]
    seen = tape.taps(x, size, stride, dilation)
    return tape.total(y * kernel[t // size, t % size] for t, y in enumerate(seen))


def max_pool(x, stride):
    """The maximum of 3x3 pixels."""
    first, *others = tape.taps(x, 3, stride, fill=-np.inf)
    for other in others:
        first = tape.maximum(first, other)
    return first


def avg_pool(x, stride):
    """The mean of those of 3x3 pixels that are inside of the image."""
    inside = tape.total(tape.taps(tape.Var(np.ones(x.shape)), 3, stride)).value
    return tape.total(tape.taps(x, 3, stride)) * (1 / inside)


def corners(x):
    """The four pixels of every 2x2 window."""
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def moments(x):
    """Mean and biased variance of every channel."""
    mean = x.mean((0, 1, 2))
    return mean, ((x - mean) ** 2).mean((0, 1, 2))


class Norm:
    """Batch normalisations of a network, which keeps the running averages that it moves.

    Args:
      mode: ``'search'`` for batch statistics alone, ``'train'`` to move running averages as well,
        ``'eval'`` to use them.
    """

    def __init__(self, mode):
        self.mode, self.moved = mode, []

    def __call__(self, x, p=None):
        """Normalises; `p` holds ``scale`` and ``shift`` or ``bias``, ``mean`` and ``var``."""
        mean, variance = moments(x)
        if self.mode == "train":
            count = x.value.size // x.shape[-1]
            new = {"mean": mean.value, "var": variance.value * count / (count - 1)}
            for name, value in new.items():
                self.moved.append((p[name], 0.9 * p[name].value + 0.1 * value))
        if self.mode == "eval":
            mean, variance = p["mean"], p["var"]
        y = (x - mean) * (variance + EPSILON) ** -0.5
        if p is None:
            return y
        return y * p["scale"] + p["shift" if "shift" in p else "bias"]


def factorized(x, kernels, norm, p=None):
    """Two convolutions of stride 2, one a pixel off, side by side."""
    x = tape.relu(x)
    first, second = x[:, ::2, ::2] @ kernels[0], x[:, 1::2, 1::2] @ kernels[1]
    return norm(tape.concatenate([first, second]), p)


def separable(x, pairs, stride, dilation, norm, norms):
    """ReLU, depthwise and pointwise convolution, normalisation, once or twice."""
    for (deep, point), p in zip(pairs, norms, strict=True):
        x = norm(depthwise(tape.relu(x), deep, stride, dilation) @ point, p)
        stride = 1
    return x


def mixed_operation(name, x, p, e, stride, normalise_pools):
    """One operation of a supernet on the edge at position `e` of those that leave its node."""
    norm = Norm("search")
    if name == "skip_connect":
        return x if stride == 1 else factorized(x, p["kernels"][:, :, e], norm)
    if "pool" in name:
        y = (max_pool if "max" in name else avg_pool)(x, stride)
        return norm(y) if normalise_pools else y
    if name.startswith("nor_conv"):
        return norm(conv(tape.relu(x), p["kernel"][:, :, :, e], stride))
    both = [(p["depthwise"][i][..., e], p["pointwise"][i][:, e]) for i in p["depthwise"]]
    return separable(x, both, stride, 2 if "dil" in name else 1, norm, [None] * len(both))


def mixed_cell(p, states, nodes, table, options, *, reduction=False, partial=1, betas=None):
    """The nodes of a supernet's cell.

    Args:
      p: its weights.
      states: its inputs; two in DARTS, where poolings are normalised.
      nodes: number of further nodes.
      table: mixing weights ``[edges, options]``.
      options: names of the operations.
      reduction: whether edges that leave an input have stride 2.
      partial: one in so many channels passes the operations.
      betas: for each edge its weight; None for ones.
    """
    states, inputs = list(states), len(states)
    all_edges = edges(inputs, nodes)
    for target in range(inputs, inputs + nodes):
        terms = []
        for e, (i, j) in enumerate(all_edges):
            if j != target:
                continue
            stride = 2 if reduction and i < inputs else 1
            position = [k for k in all_edges if k[0] == i].index((i, j))
            operated = states[i].shape[-1] // partial
            x, bypass = states[i][..., :operated], states[i][..., operated:]
            own = p["sources"][i]["operations"]
            y = tape.total(
                table[e, o] * mixed_operation(name, x, own.get(name), position, stride, inputs == 2)
                for o, name in enumerate(options)
                if name != "none"
            )
            if partial > 1:
                if stride == 2:
                    a, b, c, d = corners(bypass)
                    bypass = tape.maximum(tape.maximum(a, b), tape.maximum(c, d))
                y = shuffle(tape.concatenate([y, bypass]), partial)
            terms.append(y if betas is None else betas[e] * y)
        states.append(tape.total(terms))
    return states[inputs:]


def shuffle(x, groups):
    """Channel ``i`` of group ``g`` goes to ``i * groups + g``."""
    width = x.shape[-1] // groups
    return tape.concatenate([x[..., i::width] for i in range(width)])


def discrete_operation(name, x, p, stride, norm):
    """One operation of a discrete network."""
    if name == "skip_connect":
        return x if stride == 1 else factorized(x, p["kernels"], norm, p["norm"])
    if "pool" in name:
        return (max_pool if "max" in name else avg_pool)(x, stride)
    if name.startswith("nor_conv"):
        return norm(conv(tape.relu(x), p["conv"]["kernel"], stride), p["norm"])
    pairs = [(q["depthwise"], q["pointwise"]) for q in p["convs"].values()]
    return separable(x, pairs, stride, 2 if "dil" in name else 1, norm, p["norms"].values())


def discrete_cell(p, states, inputs, nodes, choices, reduction, norm):
    """The nodes of a discrete network's cell; `choices` are operations by edge."""
    states = list(states)
    for target in range(inputs, inputs + nodes):
        terms = []
        for e, (row, name) in enumerate(choices.items()):
            i, j = map(int, row.split("->"))
            if j == target and name != "none":
                stride = 2 if reduction and i < inputs else 1
                own = p.get("operations", {}).get(e)
                terms.append(discrete_operation(name, states[i], own, stride, norm))
        states.append(tape.total(terms))
    return states[inputs:]


def of_layer(p, layer):
    """The weights of one of the cells that are stacked in the first axis."""
    if isinstance(p, dict):
        return {key: of_layer(value, layer) for key, value in p.items()}
    return p[layer]


def nas_bench_201(p, x, cells, cell, norm):
    """Logits of a network with so many cells a stage; ``cell(weights, x) -> x`` computes one."""
    x = norm(conv(x, p["stem"]["kernel"]), p["stem_norm"])
    for s, stage in p["stages"].items():
        if s:
            block = p["reductions"][s - 1]
            y = x
            for name, stride in (("first", 2), ("second", 1)):
                own = block[name]
                y = norm(conv(tape.relu(y), own["conv"]["kernel"], stride), own["norm"])
            x = y + conv(tape.total(corners(x)) * 0.25, block["shortcut"]["kernel"])
        for layer in range(cells):
            x = cell(of_layer(stage["cells"], layer), x)
    x = tape.relu(norm(x, p["last_norm"])).mean((1, 2))
    return x @ p["classifier"]["kernel"] + p["classifier"]["bias"]


def darts(p, x, reductions, cell, norm):
    """Logits, and the output of the second reduction cell.

    Args:
      p: weights.
      x: images.
      reductions: the numbers of the cells that reduce.
      cell: ``(weights, states, reduction) -> nodes``.
      norm: the normalisations.
    """
    stem = p["stem"]
    older = newer = norm(conv(x, stem["convs"][0]["kernel"]), stem["norms"][0])
    places = [(r, i) for r, run in p["runs"].items() for i in run["older"]]
    reduced = newer
    for number, (r, i) in enumerate(places):
        run, reduction = p["runs"][r], number in reductions
        own = of_layer(run["stack"]["cells"], i)
        norms = own.get("norms", {0: None, 1: None})
        if number - 1 in reductions:
            first = factorized(older, run["older"][i], norm, norms[0])
        else:
            first = norm(tape.relu(older) @ run["older"][i], norms[0])
        second = norm(tape.relu(newer) @ run["newer"][i], norms[1])
        older, newer = newer, tape.concatenate(cell(own["graph"], [first, second], reduction))
        reduced = newer if reduction else reduced
    y = newer.mean((1, 2))
    return y @ p["classifier"]["kernel"] + p["classifier"]["bias"], reduced


def auxiliary_head(p, x, norm):
    """Logits of 8x8 pixels."""
    x = tape.relu(x)
    x = tape.total(x[:, i : i + 4 : 3, :][:, :, j : j + 4 : 3] for i in range(5) for j in range(5))
    x = tape.relu(norm((x * 0.04) @ p["first"]["kernel"][0, 0], p["first_norm"]))
    kernel = p["second"]["kernel"]
    x = tape.total(x[:, i, j] @ kernel[i, j] for i in (0, 1) for j in (0, 1))
    x = norm(_as_images(x), p["last_norm"])[:, 0, 0]
    return tape.relu(x) @ p["classifier"]["kernel"] + p["classifier"]["bias"]


def _as_images(x):
    return tape.Var(x.value[:, None, None], [(x, lambda g: g[:, 0, 0])])
