"""Supernets computed edge by edge and cell by cell, with JAX's own convolutions.

The plain text of the published definitions, for comparison with the fused and scanned ones. Only
the arrays of weights are shared: these functions take them from a supernet.
"""

import jax
import jax.numpy as jnp
from jax import lax

NUMBERS = ("NHWC", "HWIO", "NHWC")


def relu(x):
    return jnp.maximum(x, 0)


def norm(x):
    mean = x.mean((0, 1, 2), keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean((0, 1, 2), keepdims=True) + 1e-5)


def conv(x, kernel, stride=1, dilation=1, groups=1):
    pad = dilation * (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=NUMBERS,
        feature_group_count=groups,
    )


def pool(x, stride, combine, start):
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, start, combine, (1, 3, 3, 1), (1, stride, stride, 1), pads)


def avg_pool(x, stride):
    return pool(x, stride, lax.add, 0.0) / pool(jnp.ones_like(x), stride, lax.add, 0.0)


def factorized(x, kernels):
    """`kernels`: ``[2, channels_in, channels_out / 2]``."""
    first = conv(relu(x), kernels[0][None, None], stride=2)
    second = conv(relu(x)[:, 1:, 1:], kernels[1][None, None], stride=2)
    return norm(jnp.concatenate([first, second], -1))


def separable(x, operation, edge, stride, dilation):
    for depthwise, pointwise in zip(operation.depthwise, operation.pointwise, strict=True):
        depthwise, pointwise = depthwise[...][..., edge], pointwise[...][:, edge]
        x = conv(relu(x), depthwise[:, :, None], stride, dilation, groups=x.shape[-1])
        x = norm(conv(x, pointwise[None, None]))
        stride = 1
    return x


def apply(name, x, operation, edge, stride, normalise_pools):
    """One operation on one edge, `edge` being its position among those of the fused one."""
    if name == "skip_connect":
        return x if stride == 1 else factorized(x, operation.kernels[...][:, :, edge])
    if "pool" in name:
        y = pool(x, stride, lax.max, -jnp.inf) if "max" in name else avg_pool(x, stride)
        return norm(y) if normalise_pools else y
    if name.startswith("nor_conv"):
        return norm(conv(relu(x), operation.kernel[...][:, :, :, edge], stride))
    return separable(x, operation, edge, stride, dilation=2 if "dil" in name else 1)


def cell(mixed, states, candidates, weights, stride, normalise_pools):
    """Nodes of a mixed cell; `weights` holds one array for each edge."""
    nodes = list(states)
    for j in range(mixed.inputs, mixed.inputs + mixed.nodes):
        total = 0.0
        for e, (i, target) in enumerate(mixed.edges):
            if target != j:
                continue
            source = mixed.sources[i]
            mine = [f for f, (k, _) in enumerate(mixed.edges) if k == i]
            for name, weight in zip(candidates[e], weights[e], strict=True):
                if name == "none":
                    continue
                users = source.users[name]
                position = users.index(mine.index(e))
                s = stride if i < mixed.inputs else 1
                y = apply(name, nodes[i], source.operations[name], position, s, normalise_pools)
                total = total + weight * y
        nodes.append(total)
    return nodes[mixed.inputs :]


def affine_norm(x, module):
    return norm(x) * module.scale[...] + module.shift[...]


def unstack(stack):
    """The cells of a `Stack`, one by one."""
    from flax import nnx

    graph, state = nnx.split(stack.cells)
    cells = [jax.tree.map(lambda x, i=i: x[i], state) for i in range(stack.length)]
    return [nnx.merge(graph, cell) for cell in cells]


def of_layer(mix, layer):
    """The tables of one cell: its own ones of ``[layers, rows, options]``, or the shared ones."""
    return {name: table[layer] if table.ndim == 3 else table for name, table in mix.items()}


def nas_bench_201(net, x, mix, space):
    layer = 0
    x = affine_norm(conv(x, net.stem.kernel[...]), net.stem_norm)
    for s, stage in enumerate(net.stages):
        if s:
            block = net.reductions[s - 1]
            y = affine_norm(conv(relu(x), block.first.conv.kernel[...], 2), block.first.norm)
            y = affine_norm(conv(relu(y), block.second.conv.kernel[...]), block.second.norm)
            b, h, w, c = x.shape
            short = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
            x = y + conv(short, block.shortcut.kernel[...])
        for mixed in unstack(stage):
            own = space.part.tables(of_layer(mix, layer))
            weights = [row for *_, table in own for row in table]
            x = cell(mixed, [x], space.part.candidates, weights, 1, False)[-1]
            layer += 1
    x = relu(affine_norm(x, net.last_norm)).mean((1, 2))
    return x @ net.classifier.kernel[...] + net.classifier.bias[...]


def darts(net, x, mix, space):
    stem = affine_norm(conv(x, net.stem.convs[0].kernel[...]), net.stem.norms[0])
    older = newer = stem
    reduced = False
    layers = {"normal": 0, "reduce": 0}
    for run, cell_run in zip(net.plan, net.runs, strict=True):
        for i, one in enumerate(unstack(cell_run.stack)):
            part = "reduce" if run.reduction else "normal"
            kernel = cell_run.older[i][...]
            if reduced:
                first = factorized(older, kernel)
            else:
                first = norm(conv(relu(older), kernel[None, None]))
            own = space.tables(of_layer(mix, layers[part]), part)
            layers[part] += 1
            second = norm(conv(relu(newer), cell_run.newer[i][...][None, None]))
            outputs = cell(
                one.graph,
                [first, second],
                space.candidates(part),
                [row for *_, table in own for row in table],
                2 if run.reduction else 1,
                True,
            )
            older, newer, reduced = newer, jnp.concatenate(outputs, -1), run.reduction
    x = newer.mean((1, 2))
    return x @ net.classifier.kernel[...] + net.classifier.bias[...]
