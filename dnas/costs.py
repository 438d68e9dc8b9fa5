"""What networks cost in parameters and multiply-adds, whole ones and by option.

`count_parameters` and `count_multiply_adds` are about the network of a genotype, in any space.
`parameters` and `multiply_adds` are about every option of a space, for penalties such as
`dnas.gradient.regularize.expected_cost`: what the operation adds that a genotype would put on the
edge, in every cell that the table decides. All is computed from shapes alone, without any weights.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from dnas import edges, sequences
from dnas.genotype import Genotype
from dnas.nn import operations, products
from dnas.nn.layers import running
from dnas.space import SearchSpace
from dnas.spaces.darts import DARTS
from dnas.spaces.darts_networks import plan
from dnas.spaces.nas_bench_201 import NASBench201
from dnas.tasks import Task

Costs = dict[str, np.ndarray]


class Site(NamedTuple):
    """Equal cells of a network.

    Attributes:
      part: what the space calls this kind of cell.
      channels: of every node.
      size: height and width of the nodes behind the inputs.
      cells: number of such cells.
      inputs: number of input nodes.
      stride: of the edges that leave an input node.
    """

    part: str
    channels: int
    size: tuple[int, int]
    cells: int
    inputs: int = 1
    stride: int = 1


@functools.singledispatch
def sites(space: SearchSpace, task: Task) -> list[Site]:
    """The cells of a space's networks. Other spaces add theirs with ``sites.register``.

    Raises:
      TypeError: nothing is registered for this space.
    """
    raise TypeError(
        f"the cells of {type(space).__name__} are unknown; register a function "
        "(space, task) -> list of Site with dnas.costs.sites.register"
    )


@sites.register
def _(space: NASBench201, task: Task) -> list[Site]:
    return [
        Site("cell", space.channels * 2**s, _halved(task.inputs.shape[:2], s), space.cells)
        for s in range(space.stages)
    ]


@sites.register
def _(space: DARTS, task: Task) -> list[Site]:
    size = _halved(task.inputs.shape[:2], 0 if space.stem == "cifar" else 3)
    found = []
    for run in plan(space, (0, 0), False):  # the stem's width is none of the cells' nodes'
        size = _halved(size, int(run.reduction))
        part, stride = ("reduce", 2) if run.reduction else ("normal", 1)
        found.append(Site(part, run.channels, size, run.length, 2, stride))
    return found


def known(space: SearchSpace) -> bool:
    """Whether a space, or one that it inherits from, is registered with `sites`."""
    return sites.dispatch(type(space)) is not sites.dispatch(object)


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
    """The multiply-adds that a genotype's network takes for one image more, outside of training.

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

    return of_batch(2) - of_batch(1)  # without products of weights, which no image adds to


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
    """The multiplications of convolutions that each option adds to the network, for one image.

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
    found = sites(space, task)
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


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    height, width = (math.ceil(side / 2**times) for side in size)
    return height, width
