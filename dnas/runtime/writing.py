"""Writing files, in one piece or line by line, and never through a link.

A file is written beside its place and renamed when it is complete. The name beside is random and
must be new, so that nothing that somebody put there is followed or overwritten.
"""

import contextlib
import os
import pathlib
import secrets

from dnas.runtime.errors import unwritable


def replace(path: pathlib.Path, data: bytes) -> None:
    """Writes a file in one piece, in place of what was there; a link is not followed.

    Raises:
      WorkdirError: it cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def append(path: pathlib.Path, data: bytes) -> None:
    """Adds to the end of a file, which must be no link.

    Raises:
      WorkdirError: it cannot be written; the file is as it was.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    try:
        with open(os.open(path, flags, 0o666), "ab", buffering=0) as file:
            before, rest = os.fstat(file.fileno()).st_size, data
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                os.ftruncate(file.fileno(), before)  # a full disk takes a part of a line
                raise
    except OSError as error:
        raise unwritable(path, error) from error


def clear(directory: pathlib.Path) -> None:
    """Removes what processes that were killed left beside the places of their files."""
    for path in directory.glob(".*.tmp"):
        if path.is_symlink() or path.is_file():
            with contextlib.suppress(OSError):  # somebody else's: it is in nobody's way
                path.unlink()
