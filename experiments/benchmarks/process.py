"""One side of the benchmark in a process of its own: start-up, compilation, peak memory.

A peak of resident memory is a process's, so every side gets one. Ours is measured twice with one
compilation cache: compiling needs memory, too, and a search that finds its program in the cache
does not.
"""

import dataclasses
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

from experiments.benchmarks.settings import Settings

OURS = "ours"
# Sides in PyTorch, with the settings of `torch_reference.Search`.
REFERENCES = {
    "torch_nchw": {},
    "torch_channels_last": {"channels_last": True},
    "torch_compiled": {"channels_last": True, "compiled": True},
}
STEPS = 3  # one of Adam, one with momentum, one more


def environment(cache: str) -> dict[str, str]:
    """What the process needs to keep compiled programs as searches do, and share a GPU."""
    return {"JAX_COMPILATION_CACHE_DIR": cache, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def measure(side: str, settings: Settings, cache: str) -> dict[str, float]:
    """Runs a few steps of one side in a new process.

    Args:
      side: ``'ours'`` or one of `REFERENCES`.
      settings: what to run.
      cache: folder of compiled programs.

    Returns:
      ``start``, seconds from the start of the process to the end of the first step; ``peak``,
      bytes of resident memory; ``device_peak``, bytes on the accelerator, 0 without one; of ours
      also ``trace``, ``compile`` and ``temporary``, bytes that XLA plans to need in a step.

    Raises:
      RuntimeError: the process failed.
    """
    command = [sys.executable, "-m", "experiments.benchmarks.process", side]
    command += [json.dumps(dataclasses.asdict(settings)), repr(time.time())]
    done = subprocess.run(
        command, env=os.environ | environment(cache), stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed with exit code {done.returncode}; see above")
    return json.loads(done.stdout.splitlines()[-1])


def reference(side: str, settings: Settings):
    """A step in PyTorch: a function without arguments that takes it and returns its seconds.

    Raises:
      ImportError: PyTorch is not installed.
    """
    try:
        from experiments.benchmarks import torch_reference
    except ImportError as error:
        raise ImportError("no PyTorch to compare with: pip install 'dnas[benchmark]'") from error
    from experiments.benchmarks.settings import CLASSES

    search = torch_reference.Search(
        settings.make_space(),
        3,
        CLASSES,
        relaxation=settings.relaxation,
        second_order=settings.hypergradient != "first_order",
        dtype=settings.dtype,
        **REFERENCES[side],
    )
    train, valid = (
        search.batch((b["image"] / 127.5 - 1).astype("float32"), b["label"])
        for b in settings.batches()
    )

    def step() -> float:
        start = time.perf_counter()
        search.step(train, valid)
        return time.perf_counter() - start

    return step


def resident(peak: bool = True) -> int:
    """Bytes; on Linux not from `getrusage`, which starts at the peak of the parent process."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _ours(settings: Settings, started: float) -> dict[str, float]:
    import jax

    from experiments.benchmarks.settings import Ours

    ours = Ours(settings)
    result = ours.compile()
    ours.step()
    result["start"] = time.time() - started
    for _ in range(STEPS - 1):
        ours.step()
    result["temporary"] = ours.compiled.memory_analysis().temp_size_in_bytes
    statistics = jax.local_devices()[0].memory_stats() or {}
    result["device_peak"] = statistics.get("peak_bytes_in_use", 0)
    return result | {"peak": resident()}


def _torch(side: str, settings: Settings, started: float) -> dict[str, float]:
    # What the settings of ours imported is no part of PyTorch's time and memory.
    started, ours = time.time(), resident(peak=False)
    import torch

    step = reference(side, settings)
    step()
    result = {"start": time.time() - started}
    for _ in range(STEPS - 1):
        step()
    on_gpu = torch.cuda.is_available()
    result["device_peak"] = torch.cuda.max_memory_allocated() if on_gpu else 0
    return result | {"peak": resident() - ours}


def main(side: str, settings: str, started: str) -> None:
    """Measures in this process and prints the result."""
    parsed = Settings(**json.loads(settings))
    run = _ours if side == OURS else functools.partial(_torch, side)
    print(json.dumps(run(parsed, float(started))))


if __name__ == "__main__":
    main(*sys.argv[1:])
