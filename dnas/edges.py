"""How the edges of a cell are named: ``'0->2'`` leads from node 0 to node 2."""

import re

from dnas.checks import shown

_EDGE = re.compile(r"(0|[1-9]\d{0,5})->(0|[1-9]\d{0,5})", re.ASCII)


def name(source: int, target: int) -> str:
    """The name of the edge from node `source` to node `target`."""
    return f"{source}->{target}"


def is_edge(row: str) -> bool:
    """Whether a row has the name of an edge."""
    return _EDGE.fullmatch(row) is not None


def ends(row: str) -> tuple[int, int]:
    """The nodes that an edge joins: ``ends('0->2') == (0, 2)``.

    Raises:
      ValueError: the row is no edge, or does not lead to a later node.
    """
    match = _EDGE.fullmatch(row)
    if match is None:
        raise ValueError(f"expected the name of an edge, such as '0->2', got {shown(row)}")
    source, target = map(int, match.groups())
    if source >= target:
        raise ValueError(f"edge {row!r} does not lead to a later node")
    return source, target
