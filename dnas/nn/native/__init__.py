"""Native kernels of convolutions for the CPU, and when they are used.

XLA:CPU computes convolutions of few channels at a third of the speed that the machine has, and
depthwise ones at a hundredth. `kernels.cc` computes the same in one pass over each image; the
plain JAX path beside it is the reference, and takes over wherever the kernels do not apply: other
platforms, other dtypes, no compiler. The C++ compiler of the machine builds them at first use,
for its own processor, into the user's cache directory.

Set the environment variable ``DNAS_NATIVE=0`` to do without them, ``CXX`` to choose the compiler.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

KERNELS = (
    *("dnas_conv", "dnas_conv_kernel", "dnas_depthwise", "dnas_depthwise_kernel"),
    *("dnas_max_pool", "dnas_take", "dnas_put", "dnas_moments", "dnas_projections"),
)
_FOLDER = pathlib.Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-w")
_enabled = True


def ready() -> bool:
    """Whether native kernels are used on the CPU; builds them at the first call."""
    return _enabled and _load()


def preferred(x: jax.Array) -> bool:
    """Whether to compute on these images in the way that native kernels are good at."""
    return x.dtype == np.float32 and jax.default_backend() == "cpu" and ready()


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Traces and compiles without native kernels, for comparisons."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def lowering(name: str, plain: Any) -> Any:
    """The lowering of a primitive on the CPU.

    Args:
      name: of the kernel. Its attributes are the primitive's ``window`` (with ``size``, where it
        has one) and ``groups``.
      plain: the lowering where the kernel does not apply.
    """

    def rule(ctx, *operands, **params):
        arrays = (*ctx.avals_in, *ctx.avals_out)
        if arrays[0].dtype != np.float32 or not all(a.size for a in arrays) or not ready():
            return plain(ctx, *operands, **params)
        attributes = {}
        if "window" in params:
            window = params["window"]
            low = [low for low, _ in window.padding]
            size = params.get("size", ())
            numbers = (*window.stride, *low, *window.spread, *window.dilation, *size)
            attributes["window"] = np.array(numbers, np.int64)
        if "groups" in params:
            attributes["groups"] = np.int64(params["groups"])
        return jax.ffi.ffi_lowering(name)(ctx, *operands, **attributes)

    return rule


@functools.cache
def _load() -> bool:
    if os.environ.get("DNAS_NATIVE") == "0":
        return False
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        return False
    try:
        library = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"no native kernels, convolutions on the CPU will be slower: {compiler} failed "
            f"({reason.strip()[:500]}). DNAS_NATIVE=0 silences this.",
            stacklevel=2,
        )
        return False
    for name in KERNELS:
        target = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, target, platform="cpu")
    return True


def _build(compiler: str) -> pathlib.Path:
    """The library, compiled unless it is there already for this source, compiler and machine."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    # What the compiler makes of -march=native names the processor: a home may be shared.
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    target = subprocess.run(command, capture_output=True, text=True, check=True)
    sources = (path.read_text() for path in sorted(_FOLDER.glob("*.[ch]*")))
    identity = (*sources, *_FLAGS, version.stdout, target.stdout, jax.lib.__version__)
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    path = pathlib.Path(base) / "dnas" / f"kernels-{digest}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        command = [compiler, *_FLAGS, f"-I{jax.ffi.include_dir()}", str(_FOLDER / "kernels.cc")]
        command += ["-o", partial]
        subprocess.run(command, capture_output=True, text=True, check=True)
        os.replace(partial, path)  # processes that start together each build, and all end well
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)
    return path
