"""The recurrent networks of DARTS in eager PyTorch, step by step over time as the original runs.

The weights of all nodes are read from NumPy arrays, so that both sides compute the same numbers.
"""

import os

import numpy as np
import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


class Recurrent(torch.nn.Module):
    """Embedding, cell and tied decoder.

    Args:
      arrays: ``embedding [vocabulary, channels]``, ``bias [vocabulary]``, ``entry [2 * channels,
        2 * channels]``, ``kernels [nodes, channels, 2 * channels]``.
      nodes: activation and source of each node; None for the mixture of all candidates.
      options: names of the candidates.
    """

    def __init__(self, arrays, nodes=None, options=()):
        super().__init__()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        for name, array in arrays.items():
            if name != "kernels":
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(np.array(array))))
        kernels = [torch.nn.Parameter(torch.from_numpy(np.array(k))) for k in arrays["kernels"]]
        self.kernels = torch.nn.ParameterList(kernels)
        self.nodes, self.options = nodes, options
        self.norm = torch.nn.BatchNorm1d(arrays["entry"].shape[0] // 2, affine=False)

    def forward(self, tokens, state, mix=None):
        """Logits of tokens ``[time, batch]``, and the last state."""
        inputs, states = F.embedding(tokens, self.embedding), []
        probabilities = None if mix is None else F.softmax(mix, -1)
        for x in inputs:
            gate, new = torch.cat([x, state], -1).mm(self.entry).chunk(2, -1)
            first = state + torch.sigmoid(gate) * (torch.tanh(new) - state)
            cell = self.discrete if self.nodes is not None else self.mixed
            state = cell(first, probabilities)
            states.append(state)
        return F.linear(torch.stack(states), self.embedding, self.bias), state

    def discrete(self, first, mix):
        """The output of an architecture's cell."""
        del mix
        states = [first]
        for kernel, (name, source) in zip(self.kernels, self.nodes, strict=True):
            gate, new = states[source].mm(kernel).chunk(2, -1)
            state = states[source]
            states.append(state + torch.sigmoid(gate) * (ACTIVATIONS[name](new) - state))
        return torch.stack(states[1:], -1).mean(-1)

    def mixed(self, first, mix):
        """The output of all candidates' cell."""
        states, done = self.norm(first)[None], 0
        for kernel in self.kernels:
            count, batch, channels = states.shape
            product = states.reshape(-1, channels).mm(kernel).view(count, batch, -1)
            gate, new = product.chunk(2, -1)
            gate, total = torch.sigmoid(gate), torch.zeros_like(first)
            for k, name in enumerate(self.options):
                if name == "none":
                    continue
                moved = states + gate * (ACTIVATIONS[name](new) - states)
                total = total + (mix[done : done + count, k, None, None] * moved).sum(0)
            states = torch.cat([states, self.norm(total)[None]])
            done += count
        return states[1:].mean(0)


def loss(net, tokens, targets, state, mix=None):
    """The mean cross-entropy of ``[time, batch]`` targets."""
    logits, _ = net(tokens, state, mix)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
