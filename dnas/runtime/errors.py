"""What can be wrong with a working directory."""

import errno
import os
import pathlib

_ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.ELOOP: "it is a link, which is not followed: remove it",
    errno.EACCES: "its permissions forbid it: change them, or choose a directory of your own",
    errno.EROFS: "its file system is read-only: choose another directory",
}


class WorkdirError(ValueError):
    """A place cannot be the working directory of this run, or is none any more."""


class ContradictionError(WorkdirError):
    """A working directory belongs to a run with other settings."""


class DamagedError(WorkdirError):
    """A file of a working directory is not as it was written."""


class LockedError(WorkdirError):
    """Another process writes to the working directory."""


def unwritable(path: str | os.PathLike, error: OSError) -> WorkdirError:
    """The error of a file that cannot be written: which, why, and how to go on.

    Args:
      path: the file, or the directory.
      error: what the system said.
    """
    reason = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, "see to it")
    return WorkdirError(
        f"workdir: {pathlib.Path(path)} cannot be written ({reason}): {advice}. What was written "
        "before is intact, and the same command goes on from there"
    )
