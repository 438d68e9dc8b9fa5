"""The command line: ``dnas COMMAND --FLAG=VALUE ...``; a module for each command."""

import importlib
import sys

from dnas._version import __version__

COMMANDS = {
    "search": "search an architecture, and say how good it is",
    "train": "train an architecture from scratch, and test it",
    "evaluate": "test a trained network on a data set",
}


def main() -> int | None:
    """Runs the command that the command line names; returns the exit status."""
    _, *words = sys.argv
    if words and words[0] in COMMANDS:
        command = importlib.import_module(f"dnas.cli.{words[0]}")
        return command.main([f"dnas {words[0]}", *words[1:]])
    listed = "\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())
    usage = f"usage: dnas COMMAND --help\n\ncommands:\n{listed}"
    if words and words[0] == "--version":
        print(f"dnas {__version__}")
        return 0
    if words and words[0] not in ("--help", "-h"):
        print(f"error: no command {words[0]!r}; there is {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    print(usage)
    return 0
