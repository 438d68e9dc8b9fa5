"""Which candidate operation each parameter of a supernet belongs to."""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from flax import nnx

from dnas.nn.supernet.mixed import EdgeByEdge, MixedEdges

Path = tuple[Hashable, ...]  # keys that lead to a parameter in the supernet's pure dictionary


class Owner(NamedTuple):
    """The candidate operation that a parameter belongs to.

    Attributes:
      operation: a name that all parameters of the operation have in common, on all edges and in
        all cells of a stack.
      axis: the parameter's axis of edges, counted from its end; None where it belongs to one edge.
    """

    operation: str
    axis: int | None


Owners = Mapping[Path, Owner]


def owners(supernet: nnx.Module) -> dict[Path, Owner]:
    """The owners of all parameters of mixed edges; those of no candidate are left out.

    Args:
      supernet: a supernet, or its shapes alone.
    """
    return {
        (*place, *path): owner
        for place, module in nnx.iter_modules(supernet)
        if isinstance(module, MixedEdges)
        for path, owner in _of_edges(place, module)
    }


def _of_edges(place: Path, mixed: MixedEdges) -> list[tuple[Path, Owner]]:
    found = []
    for name, operation in mixed.operations.items():
        for path, variable in nnx.to_flat_state(nnx.state(operation, nnx.Param)):
            # An operation that is not fused is one of its own on every edge.
            own = path[:2] if isinstance(operation, EdgeByEdge) else ()
            title = "/".join(map(str, (*place, "operations", name, *own)))
            axis = variable.get_metadata().get("edges")
            found.append((("operations", name, *path), Owner(title, axis)))
    return found
