"""Native kernels for the CPU: convolutions, poolings, statistics of batch normalisation, edges.

XLA:CPU computes convolutions of few channels at a third of the speed that the machine has, and
depthwise ones at a hundredth. `kernels.cc` computes the same image by image, in the caches; the
plain JAX path beside it is the reference, and takes over wherever the kernels do not apply: other
platforms, other dtypes, no compiler. The C++ compiler of the machine builds them at first use,
for its own processor, into the user's folder of caches (`dnas.runtime.caches`). Loading them also
tells glibc to keep freed blocks of memory, for the whole process: else the system clears them anew
in every step, and a DARTS step (3 cells, 8 images of 16x16) takes 1.25 times the CPU time.

Set the environment variable ``DNAS_NATIVE=0`` to do without them, ``CXX`` to choose the compiler.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import warnings
from typing import Any

import jax
import jaxlib.version
import numpy as np

from dnas.runtime import caches

KERNELS = (
    *("dnas_conv", "dnas_conv_kernel", "dnas_depthwise", "dnas_depthwise_kernel"),
    *("dnas_max_pool", "dnas_take", "dnas_put", "dnas_moments", "dnas_projections"),
    *("dnas_stack", "dnas_pin"),
)
_IN_PLACE = ("dnas_pin",)
_FOLDER = pathlib.Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-w")
_enabled = jax.make_user_context(True)


def ready() -> bool:
    """Whether native kernels are used on the CPU; builds them at the first call."""
    return _enabled.value and _load()


def disabled() -> contextlib.AbstractContextManager[None]:
    """Programs that are compiled or exported in this context hold no native kernels.

    A program for the CPU with native kernels runs only in processes that have loaded them. One that
    goes elsewhere is exported without::

        with native.disabled():
            exported = jax.export.export(jax.jit(step), platforms=["cpu"])(*arguments)

    JAX traces and compiles anew in the context, and keeps both programs of a function. The context
    holds for the thread that enters it.
    """
    return _enabled(False)


def lowering(fast: Any, plain: Any) -> Any:
    """The lowering of a primitive on the CPU.

    Args:
      fast: the lowering where native kernels apply: to float32 and arrays that are not empty.
      plain: the lowering where they do not.
    """

    def rule(ctx, *operands, **params):
        arrays = (*ctx.avals_in, *ctx.avals_out)
        floats = [a for a in arrays if jax.numpy.issubdtype(a.dtype, np.inexact)]
        plain_only = any(a.dtype != np.float32 for a in floats) or not all(a.size for a in arrays)
        return (plain if plain_only or not ready() else fast)(ctx, *operands, **params)

    return rule


def call(name: str) -> Any:
    """The lowering of a primitive as the native kernel of that name.

    The kernel's attributes are the primitive's ``window`` (with ``size``, where it has one) and
    ``groups``.
    """

    def rule(ctx, *operands, **params):
        attributes = {}
        if "window" in params:
            window = params["window"]
            low = [low for low, _ in window.padding]
            size = params.get("size", ())
            numbers = (*window.stride, *low, *window.spread, *window.dilation, *size)
            attributes["window"] = np.array(numbers, np.int64)
        if "groups" in params:
            attributes["groups"] = np.int64(params["groups"])
        aliases = {0: 0} if name in _IN_PLACE else None
        rule = jax.ffi.ffi_lowering(name, operand_output_aliases=aliases)
        return rule(ctx, *operands, **attributes)

    return rule


@functools.cache
def _load() -> bool:
    if os.environ.get("DNAS_NATIVE") == "0":
        return False
    found = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    compiler = shlex.split(os.environ.get("CXX", "")) or ([found] if found else [])
    if not compiler:
        _warn("there is no C++ compiler (c++, g++ or clang++; CXX names another)")
        return False
    try:
        library = ctypes.CDLL(str(_build(compiler)))
        targets = {name: jax.ffi.pycapsule(getattr(library, name)) for name in KERNELS}
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").splitlines()
        lines = [line for line in lines if "error" in line] or lines
        _warn(f"{shlex.join(compiler)} failed: {' '.join(lines)[:500]}")
        return False
    except (OSError, RuntimeError, AttributeError, UnicodeError) as error:
        _warn(f"they could not be built or loaded: {error!r}. XDG_CACHE_HOME names another folder")
        return False
    for name, target in targets.items():
        jax.ffi.register_ffi_target(name, target, platform="cpu")
    return True


def _warn(reason: str) -> None:
    warnings.warn(
        f"no native kernels, searches on the CPU will be several times slower: {reason}. "
        "DNAS_NATIVE=0 silences this.",
        stacklevel=3,
    )


def _build(compiler: list[str]) -> pathlib.Path:
    """The library, compiled unless it is there already for this source, compiler and machine."""
    version = _run([*compiler, "--version"])
    # What the compiler makes of -march=native names the processor: a home may be shared.
    target = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    sources = (path.read_text() for path in sorted(_FOLDER.glob("*.[ch]*")))
    identity = (*sources, *_FLAGS, version, target, jaxlib.version.__version__)
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    path = caches.folder() / f"kernels-{digest}.so"
    if caches.intact(path):
        return path
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        include = f"-I{jax.ffi.include_dir()}"
        _run([*compiler, *_FLAGS, include, str(_FOLDER / "kernels.cc"), "-o", partial])
        # Processes that start together each build one, and all end well.
        caches.store(pathlib.Path(partial), path)
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)
    return path


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    return done.stdout
