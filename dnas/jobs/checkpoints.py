"""Checkpoints: one pytree of arrays and its step number, saved atomically with orbax.

A checkpoint holds the leaves of the tree as orbax arrays and, beside them, a manifest: the
name, shape, dtype and checksum of each leaf. The tree's structure is never stored, so named
tuples and optimizer states come back as what they are: the caller brings a template, and the
manifest is compared with it leaf by leaf before anything is used.

This is the only file that knows orbax, which it imports when the first checkpoint is touched.
"""

import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used: it is damaged, or it belongs to something else."""


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
        self.directory = pathlib.Path(directory).resolve()
        self._keep = keep
        self._manager = None

    def path(self, step: int) -> pathlib.Path:
        """The directory of the checkpoint of a step."""
        return self.directory / str(step)

    def latest(self) -> int | None:
        """The newest step that was saved completely; None where there is none."""
        # A look at the names spares a fresh run the import of orbax before its first step.
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        if not any(name.isdigit() for name in names):
            return None
        return self._open().latest_step()

    def save(self, step: int, tree: Any, notes: Mapping[str, float] | None = None) -> None:
        """Saves `tree` as the checkpoint of `step` and waits until it is on disk.

        Args:
          step: the step number; an existing checkpoint of that step is left as it is.
          tree: a pytree of arrays, numbers and typed PRNG keys.
          notes: finite numbers by name to keep with it, in double precision.
        """
        from orbax import checkpoint as ocp

        if step == self.latest():
            return
        entries, arrays = _describe(tree)
        # Orbax refuses empty arrays; their entry in the manifest says all there is to know.
        arrays = {name: array for name, array in arrays.items() if array.size}
        self._open().save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                manifest=ocp.args.JsonSave({"leaves": entries, "notes": dict(notes or {})}),
            ),
            force=True,
        )
        self._open().wait_until_finished()

    def restore(self, template: Tree, step: int | None = None) -> tuple[Tree, dict[str, float]]:
        """Loads a checkpoint into the structure of `template`.

        Args:
          template: a pytree like the one that was saved: its leaves say names, shapes and
            dtypes (arrays or `jax.ShapeDtypeStruct`); their values are not used.
          step: which checkpoint; the newest by default.

        Returns:
          The tree with the saved values (numpy arrays, and typed PRNG keys where they were),
          and the notes.

        Raises:
          CheckpointError: there is no such checkpoint, it is damaged, or it does not fit the
            template; the message names the leaves and says what to do.
        """
        from orbax import checkpoint as ocp

        step = self.latest() if step is None else step
        if step is None or not self.path(step).is_dir():
            raise CheckpointError(f"no checkpoint of step {step} in {self.directory}")
        try:
            manifest = ocp.args.Composite(manifest=ocp.args.JsonRestore())
            manifest = self._open().restore(step, args=manifest).manifest
            entries, notes = manifest["leaves"], manifest["notes"]
        except Exception as error:  # whatever orbax raises about a damaged file
            raise self._damaged(step, str(error)) from error
        wanted = [
            (jax.tree_util.keystr(path), _signature(leaf))
            for path, leaf in jax.tree_util.tree_leaves_with_path(template)
        ]
        self._compare(step, wanted, [(e["leaf"], (tuple(e["shape"]), e["type"])) for e in entries])
        leaves = [np.zeros(e["stored_shape"], jax.numpy.dtype(e["stored_type"])) for e in entries]
        targets = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
        try:
            composite = ocp.args.Composite(arrays=ocp.args.StandardRestore(targets))
            arrays = dict(self._open().restore(step, args=composite).arrays)
        except Exception as error:
            raise self._damaged(step, str(error)) from error
        leaves = [np.asarray(arrays.get(_name(i), leaf)) for i, leaf in enumerate(leaves)]
        for i, entry in enumerate(entries):
            if _checksum(leaves[i]) != entry["checksum"]:
                raise self._damaged(step, f"the checksum of {entry['leaf']} is wrong")
            if entry["key"]:
                leaves[i] = jax.random.wrap_key_data(leaves[i], impl=entry["key"])
        return jax.tree.unflatten(jax.tree.structure(template), leaves), notes

    def close(self) -> None:
        """Ends orbax's threads; the object opens itself again when it is used again."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self):
        if self._manager is None:
            from orbax import checkpoint as ocp

            # What a killed process left behind has a temporary name, which orbax clears here.
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                create=True,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,
            )
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager

    def _compare(self, step, wanted, found) -> None:
        wanted, found = dict(wanted), dict(found)
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
                f"the checkpoint {self.path(step)} belongs to another model or optimizer:\n"
                f"  {shown}\nUse another working directory, or the settings that wrote this one."
            )

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        others = [s for s in self._open().all_steps() if s != step]
        back = f"go back to step {max(others)}" if others else "start again"
        return CheckpointError(
            f"the checkpoint {self.path(step)} is damaged: {reason}\n"
            f"Remove that directory to {back}."
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
    directory = pathlib.Path(directory)
    names = os.listdir(directory) if directory.is_dir() else []
    steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    failed = [f"no checkpoint in {directory}"]
    for step in steps:
        path = directory / str(step)
        try:
            found = _read_leaves(path)
        except Exception as error:  # damaged, or a run that goes on has just removed it
            failed.append(f"the checkpoint {path} cannot be read: {error}")
            continue
        return step, _part(path, template, found)
    raise CheckpointError(failed[min(1, len(failed) - 1)])


def _read_leaves(path: pathlib.Path) -> dict[str, Any]:
    """All leaves of a checkpoint by name."""
    from orbax import checkpoint as ocp

    def read(item: str, how: Any) -> Any:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(path, args=ocp.args.Composite(**{item: how}))[item]

    entries = read("manifest", ocp.args.JsonRestore())["leaves"]
    stored = [np.zeros(e["stored_shape"], jax.numpy.dtype(e["stored_type"])) for e in entries]
    targets = {_name(i): leaf for i, leaf in enumerate(stored) if leaf.size}
    arrays = dict(read("arrays", ocp.args.StandardRestore(targets)))
    found = {}
    for i, entry in enumerate(entries):
        leaf = np.asarray(arrays.get(_name(i), stored[i]))
        if _checksum(leaf) != entry["checksum"]:
            raise ValueError(f"the checksum of {entry['leaf']} is wrong")
        key = entry["key"]
        found[entry["leaf"]] = jax.random.wrap_key_data(leaf, impl=key) if key else leaf
    return found


def _part(path: pathlib.Path, template: Tree, found: Mapping[str, Any]) -> Tree:
    leaves = []
    for place, wanted in jax.tree_util.tree_leaves_with_path(template):
        name = jax.tree_util.keystr(place)
        if name not in found or _signature(found[name]) != _signature(wanted):
            there = _spell(_signature(found[name])) if name in found else "nothing"
            raise CheckpointError(
                f"the checkpoint {path} belongs to another network: {name} is {there} there, "
                f"{_spell(_signature(wanted))} expected"
            )
        leaves.append(found[name])
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _name(index: int) -> str:
    return f"{index:05d}"


def _signature(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape and type of a leaf; the type of a PRNG key is like 'key<fry>'."""
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def _describe(tree: Any) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The manifest of a tree, and its leaves as numpy arrays."""
    entries, arrays = [], {}
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        shape, kind = _signature(leaf)
        is_key = jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        entries.append(
            {
                "leaf": jax.tree_util.keystr(path),
                "type": kind,
                "shape": list(shape),
                "stored_type": str(array.dtype),
                "stored_shape": list(array.shape),
                "checksum": _checksum(array),
                "key": str(jax.random.key_impl(leaf)) if is_key else None,
            }
        )
        arrays[_name(index)] = array
    return entries, arrays


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.tobytes())


def _spell(signature: tuple[tuple[int, ...], str]) -> str:
    return f"{signature[1]}{list(signature[0])}"
