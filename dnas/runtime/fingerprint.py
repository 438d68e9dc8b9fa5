"""Settings as plain data, by which a directory recognises its run."""

import dataclasses
import functools
import hashlib
import types
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas import data as datasets
from dnas import spaces
from dnas.nn.kernels import native
from dnas.parts import Part
from dnas.runtime import parallel as parallels
from dnas.space import SearchSpace


def of_data(data: datasets.Dataset) -> dict[str, Any]:
    """What tells a data set from others: shapes and the content of both splits."""
    return data.describe()


def of_space(space: SearchSpace) -> dict[str, Any]:
    """A space's name and attributes, and the class of one that is not of the package."""
    own = {} if spaces.known(space) else {"class": type(space).__qualname__}
    return {"name": space.name, **attributes(space), **own}


def of_devices(kind: str) -> dict[str, Any]:
    """How steps are divided, ``'none'`` or ``'pmap'``, among how many devices, by which kernels.

    On another platform, or with other kernels, the same run would round differently, so that it is
    another run.
    """
    platform = jax.default_backend()
    kernels = "native" if platform == "cpu" and native.ready() else "xla"
    devices = parallels.make(kind).devices
    return {"kind": kind, "devices": devices, "platform": platform, "kernels": kernels}


def plain(value: Any, depth: int = 6) -> Any:
    """Settings as what JSON can hold.

    A part of a method (`dnas.parts.Part`) is described by its name and settings; an array of
    numbers by its shape and a checksum. A function of the package is described by its name, its
    defaults and the values it closes over. Of any other function there are also the numbers in its
    byte code and a digest of that, by which an edited one is another. (`dnas.runtime.settings`
    does not compare them between minor versions of Python.) What is nested deeper than `depth`,
    and any other object, is described by its type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Part):
        # Parts within parts are no levels of the settings.
        own = {} if _ours(value.factory) else {"factory": plain(value.factory, depth)}
        settings = {name: plain(item, depth) for name, item in value.settings}
        return {"name": value.name, **own, **settings}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item, depth - 1) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item, depth - 1) for item in value]
    if isinstance(value, np.ndarray | jax.Array) and jnp.issubdtype(value.dtype, np.number):
        array = np.asarray(value)
        return {"array": list(array.shape), "checksum": zlib.crc32(array.tobytes())}
    if isinstance(value, functools.partial):
        parts = {"args": value.args, "keywords": value.keywords}
        return {"partial": plain(value.func, depth - 1), **_nonempty(parts, depth)}
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        parts = {
            "defaults": value.__defaults__,
            "keyword_defaults": value.__kwdefaults__,
            "closure": {name: cell.cell_contents for name, cell in cells},
        }
        if _ours(value):
            return {"function": value.__qualname__, **_nonempty(parts, depth)}
        digest = hashlib.sha256(_spell(value.__code__).encode()).hexdigest()[:16]
        code = {"numbers": _numbers(value.__code__), "digest": digest}
        return {"function": value.__qualname__, "code": code, **_nonempty(parts, depth)}
    return type(value).__qualname__


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of a space or a preset as what JSON can hold."""
    return plain(value if dataclasses.is_dataclass(value) else vars(value))


def _ours(function: Any) -> bool:
    """Whether a function is one of the package."""
    return isinstance(function, types.FunctionType) and f"{function.__module__}".startswith("dnas.")


def _nonempty(parts: Mapping[str, Any], depth: int) -> dict[str, Any]:
    # Containers of a function's parts are not levels of the settings.
    return {name: plain(part, depth) for name, part in parts.items() if part}


def _numbers(value: Any) -> list[float]:
    """The numbers among the constants of code, and of the functions in it."""
    if isinstance(value, types.CodeType):
        value = value.co_consts
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _spell(value: Any) -> str:
    """Code as text that is the same in every process: no addresses, files or orders of sets."""
    if isinstance(value, types.CodeType):
        parts = (value.co_code.hex(), value.co_names, value.co_consts)
        return f"code({', '.join(map(_spell, parts))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_spell, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_spell, value)))}}}"
    return repr(value)
