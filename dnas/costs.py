"""What networks cost in parameters and multiply-adds, whole ones and by option.

`count_parameters` and `count_multiply_adds` are about the network of a genotype, in any space.
`parameters` and `multiply_adds` are about every option of a space, for penalties such as
`dnas.gradient.regularize.expected_cost`: what the operation adds that a genotype would put on the
edge, in every cell that the table decides: in spaces with the capability
`dnas.capabilities.Costed`. All is computed from shapes alone, without any weights.
"""

import functools
import math
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from dnas import capabilities, edges, sequences
from dnas.genotype import Genotype
from dnas.nn import operations, products
from dnas.nn.layers import running
from dnas.space import SearchSpace
from dnas.tasks import Task

Costs = dict[str, np.ndarray]


def count_parameters(space: SearchSpace, genotype: Genotype, task: Task) -> int:
    """The number of parameters of a genotype's network, without an auxiliary head.

    Args:
      space: builds the network.
      genotype: which one.
      task: what it is built for.
    """
    weights = nnx.state(_abstract_network(space, genotype, task), nnx.Param)
    return sum(x.size for x in jax.tree.leaves(weights))


def count_multiply_adds(space: SearchSpace, genotype: Genotype, task: Task) -> int:
    """The multiply-adds that a genotype's network takes for one example more, outside of training.

    This is what papers call FLOPs: all convolutions and affine maps, those of stem, reductions
    and classifier too, without biases, normalisations, poolings and sums; of any space, and with
    operations of one's own. `dnas.nn.products.multiply_adds` has the rules. The table of
    NAS-Bench-201 adds the classifier's biases: one for each class.

    Args:
      space: builds the network.
      genotype: which one.
      task: what it is built for.
    """
    graph, state = nnx.split(_abstract_network(space, genotype, task))

    def outputs(state, inputs, key):
        net = nnx.merge(graph, state)
        carry = sequences.initial_carry(space, len(inputs))
        output, _ = sequences.read(net, inputs, carry, train=False, key=key)
        return output.logits

    def of_batch(size):
        inputs = jax.ShapeDtypeStruct((size, *task.inputs.shape), task.inputs.dtype)
        return products.multiply_adds(outputs, state, inputs, jax.random.key(0))

    return of_batch(2) - of_batch(1)  # without products of weights, which no example adds to


def _abstract_network(space: SearchSpace, genotype: Genotype, task: Task) -> nnx.Module:
    return nnx.eval_shape(lambda: space.network(genotype, task, rngs=nnx.Rngs(0)))


def parameters(space: SearchSpace, task: Task) -> Costs:
    """The number of parameters that each option adds to the network.

    Args:
      space: the search space.
      task: what networks are built for.

    Returns:
      ``[rows, options]`` for each table of operations.
    """

    def cost(operation: nnx.Module, size: tuple[int, int]) -> int:
        del size
        return sum(math.prod(shape) for shape in _shapes(operation))

    return _tabulate(space, task, cost)


def multiply_adds(space: SearchSpace, task: Task) -> Costs:
    """The multiplications of convolutions that each option adds to the network, for one example.

    This is what papers call FLOPs. Every weight of two or more axes counts as a kernel, used once
    for every pixel of the cell's nodes: so it is in all operations of this library. Normalisation
    and pooling are not counted.

    Args:
      space: the search space.
      task: what networks are built for.

    Returns:
      ``[rows, options]`` for each table of operations.
    """

    def cost(operation: nnx.Module, size: tuple[int, int]) -> int:
        kernels = sum(math.prod(shape) for shape in _shapes(operation) if len(shape) > 1)
        return kernels * math.prod(size)

    return _tabulate(space, task, cost)


def _tabulate(
    space: SearchSpace, task: Task, cost: Callable[[nnx.Module, tuple[int, int]], int]
) -> Costs:
    @functools.cache
    def operation(name: str, channels: int, stride: int) -> nnx.Module:
        def make():
            rngs = nnx.Rngs(0)
            return operations.make(name, channels, stride, norm=running(rngs), rngs=rngs)

        return nnx.eval_shape(make)

    tables = {}
    found = capabilities.need(space, capabilities.Costed, "the cost of options").sites(task)
    for name, decision in space.decisions.items():
        if not decision.chooses:
            continue  # weights of whole edges: no operations
        part, rows, options = decision
        table = np.zeros((len(rows), len(options)))
        for site in (site for site in found if site.part == part):
            for r, row in enumerate(rows):
                stride = site.stride if edges.ends(row)[0] < site.inputs else 1
                for o, option in enumerate(options):
                    module = operation(option, site.channels, stride)
                    table[r, o] += site.cells * cost(module, site.size)
        tables[name] = table
    return tables


def _shapes(module: nnx.Module) -> list[tuple[int, ...]]:
    return [variable.shape for _, variable in nnx.to_flat_state(nnx.state(module, nnx.Param))]
