"""Signals while a script starts, which takes a second of imports.

A script calls `heed_signals` before it imports anything else; `dnas.cli.flags.main` takes over
when there is something to be saved. Before that call, while Python itself starts (some hundredths
of a second), a signal has the system's effect.
"""

import os
import signal


def heed_signals() -> None:
    """Lets SIGTERM and Ctrl-C end the process with 0 and a message."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    name = signal.Signals(number).name
    os.write(2, f"stopped by {name} before the run began; nothing was written\n".encode())
    os._exit(0)  # an exception could be caught by whatever is being imported
