"""The lock of a working directory: one process writes, others are told which.

The lock is a file that tells the process: its host, its number, and when it began, by which a
number that the system gave to another process since is noticed. It is removed when the job ends.
A process that was killed leaves it behind. On the same host the next job sees that, and takes it
over; what runs on another host cannot be seen from here, so that the user has to remove the file.

To look at the file and to change it is one action, for which `flock` excludes others. It is held
for that moment only: a lock held by `flock` itself would pass to forked processes, and on network
file systems other hosts may not see it. Where a file system has no `flock`, two processes that
find the same lock of a dead one in the same milliseconds may both take it.

Within a process, locks count: jobs within jobs open the same directory again.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator

from dnas.checks import shown
from dnas.runtime.errors import LockedError, WorkdirError, unwritable

NAME = ".lock"
_LONGEST = 4096  # bytes of the file
_held: dict[tuple[int, pathlib.Path], int] = {}  # by process, since a fork inherits the rest
_counting = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Holder:
    """The process that a lock belongs to.

    Attributes:
      host: name of its machine.
      namespace: in which its number counts; containers on one machine have their own.
      process: its number.
      began: when the process began, as its machine tells it.
      since: when it took the lock, for people.
    """

    host: str
    namespace: str
    process: int
    began: str
    since: str = dataclasses.field(default="", compare=False)

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        pid = os.getpid()
        return cls(socket.gethostname(), _namespace(), pid, _began(pid) or "", now)

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """Reads what was written.

        Raises:
          ValueError: it is none.
        """
        try:
            holder = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        strings = (holder.host, holder.namespace, holder.began, holder.since)
        if type(holder.process) is not int or not all(type(text) is str for text in strings):
            raise ValueError("a value has the wrong type")
        if not 0 < holder.process < 2**31:
            raise ValueError("the number of the process is out of range")
        return holder

    def nearby(self) -> bool:
        """Whether this process could see that one."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    def alive(self) -> bool:
        """Whether it still runs; it must be nearby."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody else's
        return _began(self.process) in (self.began, None)


class Lock:
    """The lock of one directory, held until it is released; a context manager."""

    def __init__(self, directory: pathlib.Path):
        """Takes the lock.

        Args:
          directory: which exists; its path is absolute, without links.

        Raises:
          LockedError: another process has it.
          WorkdirError: the file cannot be written.
        """
        self.path = directory / NAME
        self._me = Holder.here()
        self._key = (os.getpid(), self.path)
        with _counting:
            self.first = not _held.get(self._key)
            if self.first:
                self._take()
            else:
                self.check()
            _held[self._key] = _held.get(self._key, 0) + 1

    def check(self) -> None:
        """Raises WorkdirError unless the directory is still there, and this process' own."""
        holder = None
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb"):
                holder = _holder(_read(fd))
        if holder == self._me:
            return
        if holder is not None:
            raise LockedError(self._refusal(holder))
        raise WorkdirError(
            f"workdir: {self.path.parent} was removed or moved, or its file {NAME} was, while the "
            "run went on, so that it stopped. Move it back and give the same command to go on, or "
            "begin anew in another workdir"
        )

    def release(self) -> None:
        """Gives the lock back; what was removed, or taken by others, stays as it is."""
        if self._key[0] != os.getpid():
            return  # of a forked process, which ends beside the one that has the lock
        with _counting:
            _held[self._key] -= 1
            if _held[self._key]:
                return
            del _held[self._key]
            with contextlib.suppress(OSError, WorkdirError), _opened(self.path, create=False) as fd:
                if _holder(_read(fd)) == self._me:
                    self.path.unlink()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def _take(self) -> None:
        try:
            with _opened(self.path, create=True) as fd:
                text = _read(fd)
                holder = _holder(text)
                if text and holder is None:
                    raise LockedError(
                        f"workdir: {self.path} is damaged, so that it does not tell who writes "
                        "there; remove it if no other process does"
                    )
                # No text: a process was killed, or its disk was full, when it made the file.
                if holder and holder != self._me and not (holder.nearby() and not holder.alive()):
                    raise LockedError(self._refusal(holder))
                try:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, (json.dumps(dataclasses.asdict(self._me)) + "\n").encode(), 0)
                    os.fsync(fd)
                except OSError:
                    self.path.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _refusal(self, holder: Holder) -> str:
        who = f"process {holder.process} on {shown(holder.host)} since {holder.since:.40}"
        start = f"workdir: {self.path.parent} is in use by {who}; "
        if holder.nearby():
            return start + f"wait until it ends, stop it (kill {holder.process}), or choose another"
        return start + f"if that process does not run any more, remove {self.path} to go on"


@contextlib.contextmanager
def _opened(path: pathlib.Path, create: bool) -> Iterator[int]:
    """Opens the file for this process alone."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    while True:
        fd = os.open(path, flags, 0o666)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise WorkdirError(f"workdir: {path} is no plain file; remove it")
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(fd, fcntl.LOCK_EX)
            # Who waited may have the file of a lock that was released meanwhile.
            try:
                current = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if os.path.samestat(found, current):
                yield fd
                return
        finally:
            os.close(fd)


def _read(fd: int) -> str:
    return os.pread(fd, _LONGEST, 0).decode(errors="replace").strip()


def _holder(text: str) -> Holder | None:
    """Who is named there; None where that cannot be read."""
    try:
        return Holder.parse(text)
    except ValueError:
        return None


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        return ""


def _began(pid: int) -> str | None:
    """When a process began: boot and clock ticks since; None where it is not to be seen."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name in parentheses may hold anything; state and, 19 fields on, the start follow.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if os.path.exists("/proc/self/stat"):
            return None
        shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True)
        return shown.stdout.decode().strip() or None
    return "ended" if fields[0] in "ZX" else f"{boot}/{fields[19]}"
