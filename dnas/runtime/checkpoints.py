"""Checkpoints: one pytree of arrays and its step number, saved atomically with orbax.

A checkpoint holds the bytes of all leaves as one orbax array and, beside it, a manifest: the
step, and the name, shape, dtype and checksum of each leaf. The tree's structure is never stored,
so named tuples and optimizer states come back as what they are: the caller brings a template, and
the manifest is compared with it leaf by leaf before anything is used.

This is the only file that knows orbax, which it imports when the first checkpoint is touched.
"""

import contextlib
import errno
import logging
import math
import os
import pathlib
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from dnas.runtime.reading import brief, seal, unseal

Tree = TypeVar("Tree")
_ARRAY = "leaves"
_TEMPORARY = ".orbax-checkpoint-tmp"  # in the names of what is being written, or removed
_CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or used: it is damaged, or it belongs to something else."""


class DamagedCheckpointError(CheckpointError):
    """What lies there is no checkpoint of that step, or not as it was written."""


class Checkpoint(NamedTuple, Generic[Tree]):
    """What a checkpoint holds.

    Attributes:
      step: the step number.
      tree: the saved tree: numpy arrays, and typed PRNG keys where they were.
      notes: what JSON can hold, by name.
      records: further arrays by name, of any shapes.
    """

    step: int
    tree: Tree
    notes: dict[str, Any]
    records: dict[str, np.ndarray]


class Checkpoints:
    """The checkpoints of one run, in a directory of their own.

    The newest two are kept, so that one damaged by the machine leaves one to go back to. A
    checkpoint is written under a temporary name and renamed when complete: a process killed at
    any moment leaves either the whole new checkpoint or none of it.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 2):
        """Opens the checkpoints in `directory`, which may not exist yet.

        Args:
          directory: where the checkpoints lie, one subdirectory for each step.
          keep: how many of the newest to keep.
        """
        self.directory = pathlib.Path(os.path.abspath(directory))
        self._keep = keep
        self._sound: int | None = None  # a step that this object has written, or read

    def path(self, step: int) -> pathlib.Path:
        """The directory of the checkpoint of a step."""
        return self.directory / str(step)

    def steps(self) -> list[int]:
        """The steps of which there is a directory, the newest first; it may be damaged.

        Raises:
          CheckpointError: a file is where the directory of all should be.
        """
        if self.directory.is_file():
            raise CheckpointError(
                f"{self.directory} is a file, expected a directory of checkpoints: put that "
                "directory in its place to resume the run, or remove the file to start again"
            )
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        steps = [int(name) for name in names if name.isdecimal() and name.isascii()]
        return sorted((step for step in steps if self.path(step).is_dir()), reverse=True)

    def save(
        self,
        step: int,
        tree: Any,
        notes: Mapping[str, Any] | None = None,
        records: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Saves `tree` as the checkpoint of `step` and waits until it is on disk.

        Directories of this and later steps are removed: they are damaged ones that were passed
        over, or of a future that is computed again.

        Args:
          step: the step number; one that this object has just saved or loaded is left as it is.
          tree: a pytree of arrays, numbers and typed PRNG keys.
          notes: what JSON can hold, to keep with it; numbers in double precision.
          records: further arrays to keep with it.

        Raises:
          CheckpointError: it cannot be written; what was saved before is still there.
        """
        if step == self._sound:
            return
        leaves, records = _named(tree), dict(records or {})
        entries, data = _describe([*leaves, *records.items()])
        parts = {"leaves": entries[: len(leaves)], "records": entries[len(leaves) :]}
        manifest = {"step": step, **parts, "notes": dict(notes or {})}
        try:
            self._clear(step)
            _write(self.path(step), seal(manifest), data)
            self._sound = step
            for old in self.steps()[self._keep :]:
                self._remove(old)
        except Exception as error:  # orbax and tensorstore raise what they like on a full disk
            raise self._not_written(step, len(data), error) from error

    def restore(self, template: Tree, step: int) -> Checkpoint[Tree]:
        """Loads a checkpoint into the structure of `template`.

        Args:
          template: a pytree like the one that was saved: its leaves say names, shapes and
            dtypes (arrays or `jax.ShapeDtypeStruct`); their values are not used.
          step: which checkpoint.

        Raises:
          DamagedCheckpointError: there is no such checkpoint, or it is damaged.
          CheckpointError: it does not fit the template; the message names the leaves and says
            what to do.
        """
        path = self.path(step)
        if not path.is_dir():
            raise DamagedCheckpointError(f"no checkpoint of step {step} in {self.directory}")
        manifest, leaves = _read_whole(path, step)
        _compare(path, template, manifest["leaves"])
        self._sound = step
        count = len(manifest["leaves"])
        tree = jax.tree.unflatten(jax.tree.structure(template), leaves[:count])
        names = [entry["leaf"] for entry in manifest["records"]]
        records = dict(zip(names, leaves[count:], strict=True))
        return Checkpoint(step, tree, manifest["notes"], records)

    def restore_newest(self, template: Tree) -> Checkpoint[Tree] | None:
        """Loads the newest checkpoint that is not damaged, and warns of those that are.

        Args:
          template: see `restore`.

        Returns:
          The checkpoint; None where there is none, damaged or not.

        Raises:
          CheckpointError: all are damaged, or that one does not fit the template.
        """
        failed = []
        for step in self.steps():
            try:
                found = self.restore(template, step)
            except DamagedCheckpointError as error:
                failed.append(error)
                continue
            for error in failed:
                warnings.warn(f"{error}; the run goes back to step {step}", stacklevel=2)
            return found
        if failed:
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be used: {failed[0]}"
                + f", and so are {len(failed) - 1} more" * (len(failed) > 1)
                + ". Remove that directory to start again"
            )
        return None

    def _clear(self, step: int) -> None:
        """Removes what a killed process left, and directories from a step on."""
        self.directory.mkdir(exist_ok=True)
        for left in self.directory.glob(f"*{_TEMPORARY}*"):
            shutil.rmtree(left)
        for other in self.steps():
            if other >= step:
                self._remove(other)

    def _remove(self, step: int) -> None:
        """Removes a checkpoint, under another name: a part of it must not look like one."""
        path = self.path(step)
        shutil.rmtree(path.rename(path.with_name(f"{step}{_TEMPORARY}-removed")))

    def _not_written(self, step: int, size: int, error: Exception) -> CheckpointError:
        for left in self.directory.glob(f"*{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)  # half a checkpoint only takes space
        number = error.errno if isinstance(error, OSError) else None
        causes = [c for c in _CAUSES if c == number or os.strerror(c) in str(error)]
        kept = [other for other in self.steps() if other < step]
        full = causes[:1] in ([errno.ENOSPC], [errno.EDQUOT])
        return CheckpointError(
            f"the checkpoint {self.path(step)} ({size / 1e6:.1f} MB) cannot be written: "
            f"{os.strerror(causes[0]) if causes else brief(error)}. "
            + ("Make room there" if full else "Mend that")
            + ", and the same command "
            + (f"goes on from step {kept[0]}, which is saved" if kept else "begins again")
        )


def read_part(directory: str | os.PathLike, template: Tree) -> tuple[int, Tree]:
    """Reads some leaves of the newest checkpoint and changes nothing, also while a run goes on.

    Args:
      directory: that of all checkpoints.
      template: the leaves that are wanted, in their places; see `Checkpoints.restore`.

    Returns:
      The step and the tree.

    Raises:
      CheckpointError: there is no checkpoint, it is damaged, or it lacks such leaves.
    """
    store, failed = Checkpoints(directory), []
    for step in store.steps():
        try:
            manifest, leaves = _read_whole(store.path(step), step)
        except DamagedCheckpointError as error:  # or a run that goes on has just removed it
            failed.append(error)
            continue
        names = [entry["leaf"] for entry in manifest["leaves"]]
        return step, _part(store.path(step), template, dict(zip(names, leaves, strict=False)))
    raise failed[0] if failed else CheckpointError(f"no checkpoint in {directory}")


def _part(path: pathlib.Path, template: Tree, found: Mapping[str, Any]) -> Tree:
    for name, wanted in _named(template):
        if name not in found or _signature(found[name]) != _signature(wanted):
            there = _spell(_signature(found[name])) if name in found else "nothing"
            raise CheckpointError(
                f"the checkpoint {path} belongs to another network: {name} is {there} there, "
                f"{_spell(_signature(wanted))} expected"
            )
    leaves = [found[name] for name, _ in _named(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _write(path: pathlib.Path, manifest: dict[str, Any], data: bytes) -> None:
    """Writes a directory with orbax, in one piece."""
    from orbax import checkpoint as ocp

    # One array alone: of several, tensorstore goes on reading where one turns out damaged.
    arrays = {_ARRAY: np.frombuffer(data or b"-", np.uint8)}  # orbax refuses empty ones
    items = {"arrays": ocp.args.StandardSave(arrays), "manifest": ocp.args.JsonSave(manifest)}
    with _unlogged(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=ocp.args.Composite(**items))


def _read(path: pathlib.Path, item: str, size: int = 0) -> Any:
    """Reads one item of what `_write` wrote: the manifest, or so many bytes as an array."""
    from orbax import checkpoint as ocp

    targets = {_ARRAY: np.zeros(max(size, 1), np.uint8)}
    how = ocp.args.StandardRestore(targets) if item == "arrays" else ocp.args.JsonRestore()
    with _unlogged(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(path, args=ocp.args.Composite(**{item: how}))[item]


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps orbax from logging the tracebacks of errors that it raises anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_whole(path: pathlib.Path, step: int) -> tuple[dict[str, Any], list[Any]]:
    """The manifest of a checkpoint, and the arrays and keys that its entries describe.

    Raises:
      DamagedCheckpointError: something is not as it was written.
    """
    try:
        manifest = unseal(_read(path, "manifest"))
        if manifest["step"] != step:
            raise ValueError(f"it is that of step {manifest['step']}, and should be named so")
        entries = [*manifest["leaves"], *manifest["records"]]
        types = [jax.numpy.dtype(entry["stored_type"]) for entry in entries]
        sizes = [
            math.prod(entry["stored_shape"]) * kind.itemsize
            for entry, kind in zip(entries, types, strict=True)
        ]
        data = np.asarray(_read(path, "arrays", sum(sizes))[_ARRAY])
        parts = np.split(data[: sum(sizes)], np.cumsum(sizes)[:-1])
        leaves = []
        for entry, kind, part in zip(entries, types, parts, strict=True):
            leaf = part.copy().view(kind).reshape(entry["stored_shape"])  # a copy is aligned
            if _checksum(leaf) != entry["checksum"]:
                raise ValueError(f"the checksum of {entry['leaf']} is wrong")
            key = entry["key"]
            leaves.append(
                jax.random.wrap_key_data(jax.numpy.asarray(leaf), impl=key) if key else leaf
            )
    except Exception as error:  # whatever orbax raises about a damaged file
        raise DamagedCheckpointError(
            f"the checkpoint {path} is damaged ({brief(error)})"
        ) from error
    return manifest, leaves


def _compare(path: pathlib.Path, template: Any, entries: list[dict[str, Any]]) -> None:
    """Raises CheckpointError unless a manifest's leaves are those of a template."""
    wanted = {name: _signature(leaf) for name, leaf in _named(template)}
    found = {e["leaf"]: (tuple(e["shape"]), e["type"]) for e in entries}
    lines = [f"{n}: not in the checkpoint" for n in wanted if n not in found]
    lines += [f"{n}: only in the checkpoint" for n in found if n not in wanted]
    lines += [
        f"{n}: {_spell(found[n])} in the checkpoint, {_spell(wanted[n])} expected"
        for n in wanted
        if n in found and found[n] != wanted[n]
    ]
    if lines:
        shown = "\n  ".join(lines[:10] + ["..."] * (len(lines) > 10))
        raise CheckpointError(
            f"the checkpoint {path} belongs to another model or optimizer:\n"
            f"  {shown}\nUse another working directory, or the settings that wrote this one."
        )


def _signature(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape and type of a leaf; the type of a PRNG key is like 'key<fry>'."""
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def _named(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree with their places in it as names."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _describe(leaves: list[tuple[str, Any]]) -> tuple[list[dict], bytes]:
    """The manifest's entries of leaves with names, and the bytes of all, one after the other."""
    entries, parts = [], []
    for name, leaf in leaves:
        shape, kind = _signature(leaf)
        is_key = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        entries.append(
            {
                "leaf": name,
                "type": kind,
                "shape": list(shape),
                "stored_type": str(array.dtype),
                "stored_shape": list(array.shape),
                "checksum": _checksum(array),
                "key": str(jax.random.key_impl(leaf)) if is_key else None,
            }
        )
        parts.append(array.tobytes())
    return entries, b"".join(parts)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.tobytes())


def _spell(signature: tuple[tuple[int, ...], str]) -> str:
    return f"{signature[1]}{list(signature[0])}"
