"""The supernets and search steps of this package as their authors published them, in eager PyTorch.

What our step is compared with: plain modules, one call for each operation of each edge, all
candidates computed ('none' too, as a product with zero). NAS-Bench-201 follows Dong and Yang
(2020), DARTS Liu et al. (2019), in the structure and with the numbers of the published code.
Needs ``pip install dnas[benchmark]``.
"""

import os
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dnas.nn.supernet.weights import edges
from dnas.spaces import DARTS, NASBench201
from dnas.spaces.darts_networks import plan


def norm(channels: int, affine: bool = False) -> nn.Module:
    """Batch normalisation; inside of cells without scale and shift."""
    return nn.BatchNorm2d(channels, affine=affine)


class ReluConvNorm(nn.Sequential):
    """ReLU, convolution, batch normalisation."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, affine: bool = False):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, norm(c_out, affine))


class Separable(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, batch normalisation."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int = 1):
        pad = dilation * (kernel - 1) // 2
        depthwise = nn.Conv2d(
            channels, channels, kernel, stride, pad, dilation, groups=channels, bias=False
        )
        pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        super().__init__(nn.ReLU(), depthwise, pointwise, norm(channels))


class FactorizedReduction(nn.Module):
    """Two 1x1 convolutions of stride 2 side by side, the second one pixel off the diagonal."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.norm = norm(c_out)

    def forward(self, x):
        """Maps ``[batch, c_in, height, width]``."""
        x = F.relu(x)
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
    """Nothing, of the right shape."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        """Maps ``[batch, channels, height, width]``."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _repeated(channels, kernel, stride):
    return nn.Sequential(Separable(channels, kernel, stride), Separable(channels, kernel, 1))


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda c, s: Zero(s),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduction(c, c),
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "nor_conv_1x1": lambda c, s: ReluConvNorm(c, c, 1, s),
    "nor_conv_3x3": lambda c, s: ReluConvNorm(c, c, 3, s),
    "sep_conv_3x3": lambda c, s: _repeated(c, 3, s),
    "sep_conv_5x5": lambda c, s: _repeated(c, 5, s),
    "dil_conv_3x3": lambda c, s: Separable(c, 3, s, 2),
    "dil_conv_5x5": lambda c, s: Separable(c, 5, s, 2),
}


class Cell(nn.Module):
    """A cell of mixed edges.

    Args:
      channels: of every node.
      inputs: number of input nodes.
      nodes: number of further nodes.
      names: candidates of every edge.
      stride: of the edges that leave an input.
      normalise_pools: whether batch normalisation follows a pooling.
      single_path: compute only the option of the largest weight.
    """

    def __init__(
        self,
        channels: int,
        inputs: int,
        nodes: int,
        names: Sequence[str],
        *,
        stride: int = 1,
        normalise_pools: bool = False,
        single_path: bool = False,
    ):
        super().__init__()
        self.inputs, self.nodes, self.single_path = inputs, nodes, single_path

        def make(name, stride):
            operation = OPERATIONS[name](channels, stride)
            if normalise_pools and "pool" in name:
                operation = nn.Sequential(operation, norm(channels))
            return operation

        self.edges = nn.ModuleList(
            nn.ModuleList(make(name, stride if i < inputs else 1) for name in names)
            for i, _ in edges(inputs, nodes)
        )

    def forward(self, states: list, weights) -> list:
        """The further nodes, given the inputs and the weights ``[edges, options]``."""
        nodes, e = list(states), 0
        for j in range(self.inputs, self.inputs + self.nodes):
            terms = []
            for i in range(j):
                terms.append(self._edge(self.edges[e], nodes[i], weights[e]))
                e += 1
            nodes.append(sum(terms))
        return nodes[self.inputs :]

    def _edge(self, options, x, weights):
        if self.single_path:
            chosen = int(weights.argmax())
            return weights[chosen] * options[chosen](x)
        return sum(w * option(x) for w, option in zip(weights, options, strict=True))


class ResidualReduction(nn.Module):
    """The residual block between the stages of NAS-Bench-201."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.first = ReluConvNorm(c_in, c_out, 3, 2, affine=True)
        self.second = ReluConvNorm(c_out, c_out, 3, affine=True)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x):
        """Maps ``[batch, c_in, height, width]``."""
        return self.shortcut(x) + self.second(self.first(x))


class NASBench201Supernet(nn.Module):
    """The supernet of a `dnas.spaces.NASBench201`."""

    def __init__(self, space: NASBench201, image_channels: int, classes: int):
        super().__init__()
        widths = [space.channels * 2**stage for stage in range(space.stages)]
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, widths[0], 3, padding=1, bias=False), norm(widths[0], True)
        )
        self.layers = nn.ModuleList()
        for stage, width in enumerate(widths):
            if stage:
                self.layers.append(ResidualReduction(widths[stage - 1], width))
            for _ in range(space.cells):
                self.layers.append(
                    Cell(
                        width,
                        1,
                        space.nodes - 1,
                        space.operations,
                        single_path=space.mixing.single_path,
                    )
                )
        self.last_norm = norm(widths[-1], True)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x, mix: dict):
        """Logits of ``[batch, channels, height, width]``."""
        x = self.stem(x)
        for layer in self.layers:
            x = layer([x], mix["cell"])[-1] if isinstance(layer, Cell) else layer(x)
        return self.classifier(F.relu(self.last_norm(x)).mean((2, 3)))


class DARTSSupernet(nn.Module):
    """The supernet of a `dnas.spaces.DARTS` with the stem for CIFAR."""

    def __init__(self, space: DARTS, image_channels: int, classes: int):
        super().__init__()
        width = space.stem_multiplier * space.channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, width, 3, padding=1, bias=False), norm(width, True)
        )
        self.first, self.second, self.cells = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.parts, older, newer = [], width, width
        for run in plan(space, (width, width), after_reduction=False):
            for i in range(run.length):
                wide = run.after_reduction and i == 0
                make = FactorizedReduction if wide else lambda a, b: ReluConvNorm(a, b, 1)
                self.first.append(make(older, run.channels))
                self.second.append(ReluConvNorm(newer, run.channels, 1))
                self.cells.append(
                    Cell(
                        run.channels,
                        2,
                        space.nodes,
                        space.operations,
                        stride=2 if run.reduction else 1,
                        normalise_pools=True,
                        single_path=space.mixing.single_path,
                    )
                )
                self.parts.append("reduce" if run.reduction else "normal")
                older, newer = newer, space.nodes * run.channels
        self.classifier = nn.Linear(newer, classes)

    def forward(self, x, mix: dict):
        """Logits of ``[batch, channels, height, width]``."""
        older = newer = self.stem(x)
        for first, second, cell, part in zip(
            self.first, self.second, self.cells, self.parts, strict=True
        ):
            y = torch.cat(cell([first(older), second(newer)], mix[part]), 1)
            older, newer = newer, y
        return self.classifier(newer.mean((2, 3)))


def supernet(space: NASBench201 | DARTS, image_channels: int, classes: int) -> nn.Module:
    """The supernet of a space, called as ``net(images, mix)`` with NCHW images."""
    kinds = {"nas_bench_201": NASBench201Supernet, "darts": DARTSSupernet}
    return kinds[space.name](space, image_channels, classes)


class Search:
    """A search and its step: first alphas on validation images, then weights on training images.

    Adam (0.5, 0.999, decay 1e-3) moves alphas, SGD (momentum 0.9, decay 3e-4, gradient norm at most
    5) weights; as published, the backward pass for alphas computes the gradients of weights, too.

    Args:
      space: of the supernet.
      image_channels: channels of images.
      classes: number of classes.
      relaxation: ``'softmax'``, or ``'gumbel'`` for the hard samples of GDAS.
      second_order: the finite-difference step of DARTS instead of the first-order one.
      channels_last: memory layout of images and weights; as published it is NCHW.
      dtype: ``'float32'``, ``'tf32'``, or ``'bfloat16'`` by autocast.
      compiled: whether `torch.compile` compiles the supernet.
    """

    LEARNING_RATE = 0.025

    def __init__(
        self,
        space: NASBench201 | DARTS,
        image_channels: int,
        classes: int,
        *,
        relaxation: str = "softmax",
        second_order: bool = False,
        channels_last: bool = False,
        dtype: str = "float32",
        compiled: bool = False,
    ):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.benchmark = True
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        net = supernet(space, image_channels, classes)
        self.net = net.to(self.device, memory_format=self.layout)
        self.call = torch.compile(self.net) if compiled else self.net
        self.alphas = {
            name: (1e-3 * torch.randn(len(rows), len(options), device=self.device)).requires_grad_()
            for name, (_, rows, options) in space.decisions.items()
        }
        self.relaxation, self.second_order, self.dtype = relaxation, second_order, dtype
        self.weights = list(self.net.parameters())
        self.weight_opt = torch.optim.SGD(self.weights, self.LEARNING_RATE, 0.9, weight_decay=3e-4)
        self.alpha_opt = torch.optim.Adam(
            self.alphas.values(), 3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        )

    def batch(self, images, labels):
        """Puts NHWC float images and labels, from NumPy, on the device."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        return x.to(self.device), torch.from_numpy(labels).long().to(self.device)

    def step(self, train, valid) -> float:
        """Takes a step on two batches; returns the training loss."""
        self.alpha_opt.zero_grad()
        if self.second_order:
            self._finite_difference(train, valid)
        else:
            self._loss(valid).backward()
        self.alpha_opt.step()
        self.weight_opt.zero_grad()
        loss = self._loss(train)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.weight_opt.step()
        return loss.item()  # waits for the device

    def _mix(self) -> dict:
        if self.relaxation == "softmax":
            return {name: table.softmax(-1) for name, table in self.alphas.items()}
        return {
            name: F.gumbel_softmax(table.log_softmax(-1), hard=True)
            for name, table in self.alphas.items()
        }

    def _loss(self, batch):
        images, labels = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            logits = self.call(images, self._mix())
        return F.cross_entropy(logits.float(), labels)

    def _finite_difference(self, train, valid, radius: float = 0.01):
        """Liu et al. (2019), equations 7 and 8: leaves the gradients in alphas."""
        tables, start = list(self.alphas.values()), [w.detach().clone() for w in self.weights]
        gradients = torch.autograd.grad(self._loss(train), self.weights)
        with torch.no_grad():
            for w, g in zip(self.weights, gradients, strict=True):
                momentum = self.weight_opt.state[w].get("momentum_buffer", torch.zeros_like(w))
                w.sub_(self.LEARNING_RATE * (0.9 * momentum + g + 3e-4 * w))
        gradients = torch.autograd.grad(self._loss(valid), tables + self.weights)
        direct, vector = gradients[: len(tables)], gradients[len(tables) :]
        scale = radius / torch.cat([v.flatten() for v in vector]).norm()
        sides = []
        for sign in (1, -1):
            self._move(start, vector, sign * scale)
            sides.append(torch.autograd.grad(self._loss(train), tables))
        self._move(start, vector, 0.0)
        for table, d, p, n in zip(tables, direct, *sides, strict=True):
            table.grad = d - self.LEARNING_RATE * (p - n) / (2 * scale)

    @torch.no_grad()
    def _move(self, start, vector, scale) -> None:
        for w, s, v in zip(self.weights, start, vector, strict=True):
            w.copy_(s + scale * v)
