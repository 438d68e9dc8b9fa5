"""The user's folders of compiled code, trusted only where nobody else can have written.

What lies there is run, native kernels as well as XLA's programs. A folder is used if it belongs
to the user and if neither group nor others may write to it. Where that fails, a folder of this
process takes its place, and goes with it.
"""

import atexit
import functools
import hashlib
import os
import pathlib
import shutil
import stat
import tempfile

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def folder(*names: str) -> pathlib.Path:
    """A folder below ``$XDG_CACHE_HOME/dnas``, by default ``~/.cache/dnas``; made if needed.

    Args:
      *names: path of the folder below that one; none for the folder itself.

    Returns:
      The folder, or one of the same name in `temporary` where it, or one above it up to
      ``dnas``, is a link, belongs to somebody else, or can be written to by others or not at all.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        path = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path.home() / ".cache"
        for name in ("dnas", *names):
            path /= name
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (stat.S_ISDIR(path.lstat().st_mode) and _own(path) and os.access(path, os.W_OK)):
                break
        else:
            return path
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        pass
    path = temporary().joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


@functools.cache
def temporary() -> pathlib.Path:
    """A folder that ends with the process."""
    path, owner = tempfile.mkdtemp(prefix="dnas-"), os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # a fork must not remove what its parent uses
            shutil.rmtree(path, ignore_errors=True)

    return pathlib.Path(path)


def store(partial: pathlib.Path, path: pathlib.Path) -> None:
    """Moves a finished file to its place, on the disk with a digest beside it.

    Args:
      partial: the file, in the folder of `path`.
      path: where it goes; a file of that name is replaced in one piece.
    """
    partial.chmod(0o700)
    digest = _beside(partial)
    try:
        digest.write_text(_digest(partial))
        for file in (partial, digest):
            _sync(file)
        # A library without its digest is made again; one with the digest of another is, too.
        os.replace(digest, _beside(path))
    finally:
        digest.unlink(missing_ok=True)
    os.replace(partial, path)
    _sync(path.parent)


def intact(path: pathlib.Path) -> bool:
    """Whether a file is what `store` put there, and the user's alone to write."""
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
        return regular and _own(path) and _beside(path).read_text() == _digest(path)
    except (OSError, UnicodeError):
        return False


def _beside(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(f"{path}.sha256")


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _own(path: pathlib.Path) -> bool:
    status = path.lstat()
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS_WRITE


def _sync(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
