"""The help of the commands: all keys of a config, from the signatures that `keys` reads."""

import textwrap
from collections.abc import Iterator, Sequence

from dnas.cli import config, docstrings, keys
from dnas.presets.kinds import KINDS

_WIDTH, _INDENT = 100, 34


def text(about: str, sections: Sequence[str]) -> str:
    """What --help shows above the flags.

    Args:
      about: the docstring of the command.
      sections: the top-level keys of a config that the command reads.
    """
    lines = [f"Settings, given as --config.KEY=VALUE (configs: {', '.join(config.names())}):"]
    for name in sections:
        node = keys.SECTIONS[name]
        if isinstance(node, keys.Key | keys.PartKey):
            lines.append(_line(name, node.help))
        else:
            lines += _section(name, node)
    return "\n".join([about.strip(), "", *lines, ""])


def _section(prefix: str, section: keys.Section) -> Iterator[str]:
    for name, node in section.items():
        if isinstance(node, keys.PartKey):
            yield from _part(f"{prefix}.{name}", node)
        elif isinstance(node, keys.Key):
            yield _line(f"{prefix}.{name}", node.help)
        else:
            yield from _section(f"{prefix}.{name}", node)


def _part(prefix: str, node: keys.PartKey) -> Iterator[str]:
    yield _line(f"{prefix}.name", f"{node.help}; one of")
    for factory in KINDS[node.kind].factories:
        yield _line("", f"  {factory.__name__}: {docstrings.summary(factory)}")
        for name, setting in keys.settings_of(factory).items():
            what = "a section like this one; " if isinstance(setting, keys.PartKey) else ""
            yield _line("", f"      .{name}: {what}{setting.help}", hanging="        ")
    if KINDS[node.kind].optional:
        yield _line("", f"  {keys.NONE}: leaves the method's part out")


def _line(name: str, what: str, hanging: str = "    ") -> str:
    """A key and what it is, which begins in a column of its own."""
    margin = " " * _INDENT
    lines = textwrap.wrap(
        what, _WIDTH, initial_indent=margin, subsequent_indent=margin + hanging
    ) or [margin]
    if not name:
        return "\n".join(lines)
    first = f"    {name} "
    if len(first) > _INDENT:
        return "\n".join([first.rstrip(), *lines])
    return "\n".join([first.ljust(_INDENT) + lines[0].lstrip(), *lines[1:]])
