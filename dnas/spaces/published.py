"""The text forms in which architectures are published.

Text is parsed, never run: what these functions read may come from anywhere.
"""

import ast
import re
import warnings
from typing import Any

from dnas import edges
from dnas.checks import shown
from dnas.genotype import Genotype

_OPERATION = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_INPUTS = 2  # input nodes of a DARTS cell
_KEPT = 2  # edges into each intermediate node of a DARTS cell
_LONGEST = 100_000  # characters of a genotype's text: hundreds of nodes
_DARTS_KEYS = ("normal", "normal_concat", "reduce", "reduce_concat")
_RECURRENT_KEYS = ("recurrent", "concat")


def parse_nas_bench_201(text: str, space: str = "nas_bench_201") -> Genotype:
    """Reads ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` (Dong and Yang, 2020).

    Args:
      text: for nodes 1, 2, ... the operations of their incoming edges, each with its source.
        Any number of nodes is read.
      space: name of the space in the genotype.

    Returns:
      A genotype with the part ``'cell'``, its edges in the order of the text.

    Raises:
      ValueError: the text is malformed; the message says where.
    """
    _check_text(text)
    cell, quoted = {}, shown(text)
    for target, node in enumerate(text.strip().split("+"), start=1):
        where = f"node {target} of {quoted}"
        if len(node) < 2 or node[0] != "|" or node[-1] != "|":
            raise ValueError(f"{where} must read '|op~source|...|', got {shown(node)}")
        items = node[1:-1].split("|")
        if len(items) != target:
            raise ValueError(f"{where} must have {target} incoming edges, got {len(items)}")
        for source, item in enumerate(items):
            operation, separator, found = item.partition("~")
            if not separator or found != str(source):
                raise ValueError(
                    f"{where}: expected 'op~{source}' as edge {source}, got {shown(item)}"
                )
            _check_operation(operation, where)
            cell[edges.name(source, target)] = operation
    return Genotype.create(space, {"cell": cell})


def format_nas_bench_201(genotype: Genotype) -> str:
    """Writes what `parse_nas_bench_201` reads.

    Raises:
      ValueError: the genotype is not of one part ``'cell'`` in which every node has an edge from
        every earlier one.
    """
    _check_parts(genotype, ("cell",))
    cell = genotype["cell"]
    nodes = max((edges.ends(row)[1] for row in cell), default=0)
    wanted = [[edges.name(s, t) for s in range(t)] for t in range(1, nodes + 1)]
    missing = {row for rows in wanted for row in rows} - set(cell)
    if missing or not cell:
        raise ValueError(
            f"the cell lacks the edges {shown(sorted(missing) or '0->1')}: {shown(cell)}"
        )
    return "+".join(
        "|" + "|".join(f"{cell[row]}~{source}" for source, row in enumerate(rows)) + "|"
        for rows in wanted
    )


def parse_darts(text: str, space: str = "darts") -> Genotype:
    """Reads ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=..., ...)``.

    That is how the code of DARTS (Liu et al., 2019) prints and stores cells. Both pairs of node
    2 come first, then those of node 3, and so on. The concatenation may be a list, a tuple or
    a range, also as ``list(range(2, 6))``; ``NAME =`` may stand before it all.

    Args:
      text: the genotype.
      space: name of the space in the genotype.

    Returns:
      A genotype with the parts ``'normal'`` and ``'reduce'``, edges in the order of the pairs.

    Raises:
      ValueError: the text is malformed, or the cells are none of DARTS' (two different edges
        into each node, from earlier nodes; the concatenation of all intermediate nodes); the
        message says where.
    """
    fields = _keywords(text, _DARTS_KEYS)
    cells = {part: _parse_cell(part, fields[part]) for part in ("normal", "reduce")}
    for part, cell in cells.items():
        _check_concat(f"{part}_concat", fields[f"{part}_concat"], len(cell) // _KEPT)
    return Genotype.create(space, cells)


def format_darts(genotype: Genotype) -> str:
    """Writes what `parse_darts` reads, as DARTS' code prints it.

    Nodes ascend; the edges of one node keep the genotype's order.

    Raises:
      ValueError: the parts are not ``'normal'`` and ``'reduce'``, or a node has not two edges.
    """
    _check_parts(genotype, ("normal", "reduce"))
    fields = []
    for part in ("normal", "reduce"):
        cell = genotype[part]
        rows = sorted(((edges.ends(row), op) for row, op in cell.items()), key=lambda r: r[0][1])
        pairs = [(op, source) for (source, _), op in rows]
        nodes = len(pairs) // _KEPT
        expected = [node for node in range(_INPUTS, _INPUTS + nodes) for _ in range(_KEPT)]
        if not pairs or [target for (_, target), _ in rows] != expected:
            raise ValueError(
                f"part {part!r} must have {_KEPT} edges into each of the nodes from {_INPUTS} on,"
                f" got {shown(list(cell))}"
            )
        fields += [f"{part}={pairs}", f"{part}_concat=range({_INPUTS}, {_INPUTS + nodes})"]
    return f"Genotype({', '.join(fields)})"


def parse_recurrent(text: str, space: str = "recurrent") -> tuple[Genotype, list[int]]:
    """Reads ``Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ...], concat=range(1, 9))``.

    That is how the code of DARTS (Liu et al., 2019) prints and stores recurrent cells: activation
    and source of node 1, 2, ...; `concat` lists the nodes whose mean is the output.

    Args:
      text: the genotype, written as `parse_darts` reads it.
      space: name of the space in the genotype.

    Returns:
      A genotype with the part ``'recurrent'``, and the nodes of the output.

    Raises:
      ValueError: the text is malformed, a source is no earlier node, or the output lists other
        than nodes from 1 on, each once and in their order; the message says where.
    """
    fields = _keywords(text, _RECURRENT_KEYS)
    cell = _parse_nodes("recurrent", fields["recurrent"])
    output = _concat("concat", fields["concat"])
    known = range(1, len(cell) + 1)
    # Ends first: a range of any length is told by them, and never unrolled.
    if not output or not {output[0], output[-1]} <= set(known) or not set(output) <= set(known):
        raise ValueError(f"concat must be some of the nodes {list(known)}, got {shown(output)}")
    if sorted(set(output)) != list(output):
        raise ValueError(f"concat must list each node once, in their order, got {shown(output)}")
    return Genotype.create(space, {"recurrent": cell}), list(output)


def format_recurrent(genotype: Genotype, output: list[int]) -> str:
    """Writes what `parse_recurrent` reads, as DARTS' code prints it.

    Raises:
      ValueError: the only part is not ``'recurrent'``, or a node has not one edge.
    """
    _check_parts(genotype, ("recurrent",))
    ends = {edges.ends(row): operation for row, operation in genotype["recurrent"].items()}
    nodes = sorted((target, source, operation) for (source, target), operation in ends.items())
    if not nodes or [target for target, _, _ in nodes] != list(range(1, len(nodes) + 1)):
        raise ValueError(
            "part 'recurrent' must have one edge into each of the nodes from 1 on, got "
            f"{shown(list(genotype['recurrent']))}"
        )
    pairs = [(operation, source) for _, source, operation in nodes]
    whole = range(1, len(nodes) + 1)
    concat = whole if output == list(whole) else output
    return f"Genotype(recurrent={pairs}, concat={concat})"


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the text of a genotype must be a string, got {shown(text)}")
    if len(text) > _LONGEST:
        raise ValueError(
            f"a genotype of {len(text):,} characters, beginning {shown(text[:40])}: expected at "
            f"most {_LONGEST:,}"
        )


def _check_operation(operation: str, where: str) -> None:
    if not _OPERATION.fullmatch(operation):
        raise ValueError(f"{where}: {shown(operation)} is no name of an operation")


def _check_parts(genotype: Genotype, parts: tuple[str, ...]) -> None:
    if sorted(genotype.parts()) != sorted(parts):
        raise ValueError(
            f"expected a genotype with the parts {parts}, got {shown(genotype.parts())}"
        )


def _keywords(text: str, keys: tuple[str, ...]) -> dict[str, ast.expr]:
    """The fields of ``Genotype(field=..., ...)``, not yet read."""
    _check_text(text)
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes in names, refused below
            statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "nested too deeply"
        raise ValueError(f"not the text of a genotype: {shown(text)}: {reason}") from error
    call = statements[0] if len(statements) == 1 else None
    call = call.value if isinstance(call, (ast.Expr, ast.Assign)) else None
    if not (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Genotype"
        and not call.args
    ):
        raise ValueError(f"expected 'Genotype({keys[0]}=..., ...)', got {shown(text)}")
    names = [keyword.arg for keyword in call.keywords]
    if sorted(map(str, names)) != sorted(keys):
        raise ValueError(f"a genotype must have the fields {keys}, got {shown(names)}")
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


def _literal(field: str, node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{field} must be a plain list, got {_source(node)}") from error


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node))
    except RecursionError:
        return "something deeply nested"


def _parse_cell(part: str, node: ast.expr) -> dict[str, str]:
    pairs = _literal(part, node)
    if not isinstance(pairs, (list, tuple)) or not pairs or len(pairs) % _KEPT:
        raise ValueError(
            f"{part} must be a list of {_KEPT} pairs (operation, source) for each node,"
            f" got {_source(node)}"
        )
    cell = {}
    for position, pair in enumerate(pairs):
        where, target = f"pair {position} of {part}", _INPUTS + position // _KEPT
        operation, source = _parse_pair(where, pair, target)
        row = edges.name(source, target)
        if row in cell:
            raise ValueError(f"{where} is a second edge {row!r}: sources must differ")
        cell[row] = operation
    return cell


def _parse_nodes(part: str, node: ast.expr) -> dict[str, str]:
    """The cell of a list with one pair for each node from 1 on."""
    pairs = _literal(part, node)
    if not isinstance(pairs, (list, tuple)) or not pairs:
        raise ValueError(
            f"{part} must be a list of a pair (operation, source) for each node, got "
            f"{_source(node)}"
        )
    cell = {}
    for target, pair in enumerate(pairs, 1):
        operation, source = _parse_pair(f"pair {target - 1} of {part}", pair, target)
        cell[edges.name(source, target)] = operation
    return cell


def _parse_pair(where: str, pair: object, target: int) -> tuple[str, int]:
    """The operation and the source of an edge to `target`."""
    if not (isinstance(pair, (list, tuple)) and list(map(type, pair)) == [str, int]):
        raise ValueError(f"{where} must be (operation, source), got {shown(pair)}")
    operation, source = pair
    _check_operation(operation, where)
    if not 0 <= source < target:
        raise ValueError(f"{where} leads from node {source} to node {target}")
    return operation, source


def _check_concat(field: str, node: ast.expr, nodes: int) -> None:
    """Demands that a concatenation lists all the intermediate nodes."""
    expected = range(_INPUTS, _INPUTS + nodes)
    found = _concat(field, node)
    # A range is compared as one, never unrolled, however long.
    if found != (expected if isinstance(found, range) else list(expected)):
        raise ValueError(
            f"{field} must be all intermediate nodes, {list(expected)}, got {_source(node)}"
        )


def _concat(field: str, node: ast.expr) -> list[int] | range:
    """The nodes that ``[2, 3]``, ``range(2, 4)`` or ``list(range(2, 4))`` lists."""
    name, arguments = _call(node)
    if name in ("list", "tuple") and len(arguments) == 1:
        return _concat(field, arguments[0])
    found: Any = [_literal(field, part) for part in arguments] if name == "range" else None
    if name is None:
        found = _literal(field, node)
    if not isinstance(found, list | tuple) or any(type(number) is not int for number in found):
        raise ValueError(f"{field} must be a list or a range of nodes, got {_source(node)}")
    if name is None:
        return list(found)
    try:
        return range(*found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field}: {_source(node)} is no range: {error}") from error


def _call(node: ast.expr) -> tuple[str | None, list[ast.expr]]:
    """The name and arguments of a call of a function by its name; None where it is none."""
    if not isinstance(node, ast.Call):
        return None, []
    if not isinstance(node.func, ast.Name) or node.keywords:
        return "", node.args
    return node.func.id, node.args
