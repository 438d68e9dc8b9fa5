"""Fixtures that many tests share."""

import ctypes
import gc
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

_TESTS = pathlib.Path(__file__).parent

# Eight virtual devices, so that data-parallel steps can be tested; read when JAX starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

# What one test compiled, another need not: all processes of the suite share XLA's cache.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_made = None if _CACHE in os.environ else tempfile.mkdtemp(prefix="dnas-tests-")
if _made:
    os.environ[_CACHE] = _made
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def pytest_unconfigure():
    """Removes the cache, in the process that made it."""
    if _made:
        shutil.rmtree(_made, ignore_errors=True)


# What is compared with published programs, with kernels and with other compilers is compiled as
# users compile it, and so is all that runs as a command of its own, or is marked. For the other
# tests XLA's program matters, not how fast its code is: they take a third less without LLVM's
# passes.
_OPTIMISED = ("parity", "nn", "experiments")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Says how a test's programs are compiled, before any of its fixtures is made."""
    import jax  # late: it reads the environment above

    folder, *_ = item.path.relative_to(_TESTS).parts
    optimised = folder in _OPTIMISED or item.get_closest_marker("optimised") is not None
    jax.config.update("jax_disable_most_optimizations", not optimised)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled():
    """Gives back the memory of what a module compiled."""
    yield
    import jax

    from dnas.runtime import programs

    programs.forget()
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def digits_training(tmp_path_factory):
    """A training of two steps on the digits, on eight devices, and its directory."""
    import dnas
    from dnas.training.recipe import Recipe

    folder = tmp_path_factory.mktemp("digits")
    space = dnas.spaces.NASBench201(channels=2, cells=1, nodes=2, stages=1)
    result = dnas.train(
        space,
        space.parse("|nor_conv_3x3~0|"),
        dnas.data.digits(),
        Recipe(epochs=2, batch_size=1432, learning_rate=0.1),
        seed=3,
        workdir=folder,
        parallel="pmap",
        progress=False,
    )
    return result, folder


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data: $DNAS_DATA, or shared/data beside the checkout."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("DNAS_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DNAS_DATA to the folder that holds it")
    return folder
