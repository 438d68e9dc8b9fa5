"""Signals that end a run in good order."""

import signal
import threading
from types import FrameType


class Interrupts:
    """Notes SIGTERM and the first Ctrl-C instead of dying of them; a context manager.

    The second Ctrl-C raises KeyboardInterrupt as usual; a second SIGTERM changes nothing, since
    schedulers and `make` send it twice. Python heeds no signal while XLA compiles. Handlers are
    put back at the end, and installed in the main thread only: elsewhere Python does not allow
    it, and nothing is noted.

    Attributes:
      received: name of the signal that came, or None.
    """

    def __init__(self):
        self.received: str | None = None
        self._before = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            # None: the handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
