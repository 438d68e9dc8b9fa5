"""TensorBoard's events, beside what matters: their failure never ends a run."""

import pathlib
import secrets
import warnings
from collections.abc import Mapping


class Events:
    """The events of one run, in its directory; the file is made with the first numbers."""

    def __init__(self, directory: pathlib.Path):
        """Writes nothing yet.

        Args:
          directory: where the file lies.
        """
        self._directory = directory
        self._writer = None
        self._failed = False

    def write(self, line: Mapping[str, float]) -> None:
        """Adds the numbers of one epoch; what fails is only a warning, once.

        Args:
          line: numbers by name, `epoch` and `step` among them.
        """
        if self._failed:
            return
        try:
            if self._writer is None:
                import tensorboardX

                # A resumed run hides the events that the killed one wrote after its checkpoint.
                # A random name cannot be that of a link that somebody put there.
                self._writer = tensorboardX.SummaryWriter(
                    str(self._directory),
                    purge_step=int(line["step"]),
                    filename_suffix=f".{secrets.token_hex(8)}",
                )
            for name, value in line.items():
                if name not in ("epoch", "step"):
                    self._writer.add_scalar(name, value, int(line["step"]))
            self._writer.flush()
        except Exception as error:
            warnings.warn(f"no TensorBoard events will be written: {error!r}", stacklevel=2)
            self._failed = True

    def close(self) -> None:
        """Closes the file; further numbers would open another."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except Exception as error:  # a full disk; the lock must be given back all the same
            warnings.warn(f"TensorBoard's events may lack their end: {error!r}", stacklevel=2)
