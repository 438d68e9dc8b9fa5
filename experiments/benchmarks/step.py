"""Seconds and memory of one search step, beside PyTorch's and the machine's limits.

    python -m experiments.benchmarks.step --space=darts --reference=torch

prints one row for our step and one for each side that it is compared with; docs/benchmarks.md has
such rows. Images are random; the step is the one that searches run. The sides take steps in turn,
in one process, so that whatever else the machine does meets all of them. See `columns` for what a
row says.
"""

import os
import statistics
import sys
import tempfile
import time

from absl import app, flags

from experiments.benchmarks import options

_REFERENCE = flags.DEFINE_enum("reference", "none", ["none", "torch"], "What to compare with.")
_COMPILE = flags.DEFINE_bool("compile", False, "Compare with torch.compile, too.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps to time.", lower_bound=1)
_DEVICE = flags.DEFINE_string(
    "device", None, "Platform for JAX: cpu, gpu, tpu; found if not given."
)


def columns() -> tuple[str, ...]:
    """The columns of a row.

    - trace, cold, warm: seconds to trace the step, to compile it, and to find it in the cache.
    - start: seconds from the start of the process to the end of the first step, warm cache.
    - step: median and range of the seconds a step.
    - ratio: that median over ours, so 2 means that we are twice as fast. PyTorch always
      searches with one seed.
    - temporary: GB that XLA plans for the step, beside its arguments.
    - peak: GB of resident memory of a process that finds its program in the cache; behind the
      stroke, of one that compiles it. On an accelerator the device's memory.
    - roof: GFLOP and GB that our program computes and moves, and the seconds these would take at
      the machine's measured rates, as a share of the step; what the larger of the two is. See
      `roofline.bound` for what it leaves out.

    The native kernels are built before (ten seconds, once a machine): no column holds that.
    """
    return (
        "supernet",
        "hypergradient",
        "relaxation",
        "dtype",
        "batch",
        "side",
        "trace / cold / warm, s",
        "start, s",
        "step, s",
        "ratio",
        "temporary, GB",
        "peak, GB",
        "roof",
    )


def alternate(sides: dict, steps: int, pause: float = 0.3) -> dict[str, list[float]]:
    """Seconds of each side's steps, taken in turn, after one step each to warm up.

    Args:
      sides: functions without arguments that take a step and return its seconds.
      steps: how many of each.
      pause: seconds between two sides, for the threads of one to go to sleep.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(steps + 1):
        for name, step in sides.items():
            seconds[name].append(step())
            time.sleep(pause)
    return {name: times[1:] for name, times in seconds.items()}


def _number(value: float) -> str:
    return f"{value:.3g}"


def _timing(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} ({min(seconds):.3g}-{max(seconds):.3g})"


def _peak(*results: dict) -> str:
    name = "device_peak" if results[0]["device_peak"] else "peak"
    return " / ".join(_number(result[name] / 1e9) for result in results)


def _roof(ours, seconds: float, settings) -> str:
    import jax.numpy as jnp

    from experiments.benchmarks import roofline, traffic

    kind = jnp.bfloat16 if settings.dtype == "bfloat16" else jnp.float32
    machine = roofline.measure_machine(kind)
    flops = roofline.flops(ours.jaxpr)
    moved = traffic.traffic(ours.compiled.as_text())
    bound = roofline.bound(flops, moved, machine)
    print(
        f"machine: {machine.flops / 1e9:.4g} GFLOP/s, {machine.bytes / 1e9:.3g} GB/s; the step "
        f"needs {flops / machine.flops:.3g} s to compute and {moved / machine.bytes:.3g} s to move"
    )
    return f"{flops / 1e9:.4g} / {moved / 1e9:.3g}, {bound.seconds / seconds:.0%} ({bound.limit})"


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    if _DEVICE.value:
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(_DEVICE.value, _DEVICE.value)
        if _DEVICE.value == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch's, too
    from experiments.benchmarks import process

    # Searches keep the programs that take long to compile, so do we.
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(process.environment(cache))
        try:
            _measure(options.settings(), cache)
        except (ImportError, RuntimeError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


def _measure(settings, cache: str) -> None:
    import jax

    from dnas.nn.kernels import native
    from experiments.benchmarks import process
    from experiments.benchmarks.settings import Ours

    others = [] if _REFERENCE.value == "none" else ["torch_nchw", "torch_channels_last"]
    others += ["torch_compiled"] if others and _COMPILE.value else []
    native.ready()  # builds them
    # Alone on the machine, and before this process takes any of its accelerator's memory.
    cold, warm = (process.measure(process.OURS, settings, cache) for _ in range(2))
    apart = {side: process.measure(side, settings, cache) for side in others}

    jax.config.update("jax_compilation_cache_dir", cache)
    ours = Ours(settings)
    ours.compile()
    sides = {process.OURS: ours.step}
    sides |= {side: process.reference(side, settings) for side in others}
    seconds = alternate(sides, _STEPS.value)
    median = {side: statistics.median(times) for side, times in seconds.items()}

    label = settings.label()
    print(f"device: {jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} CPU cores")
    roof = _roof(ours, median[process.OURS], settings)
    print("| " + " | ".join(columns()) + " |")
    print("|---" * len(columns()) + "|")
    for side in sides:
        mine = side == process.OURS
        result = warm if mine else apart[side]
        cells = (
            side,
            " / ".join(_number(v) for v in (warm["trace"], cold["compile"], warm["compile"]))
            if mine
            else "",
            _number(result["start"]),
            _timing(seconds[side]),
            _number(median[side] / median[process.OURS]),
            _number(warm["temporary"] / 1e9) if mine else "",
            _peak(warm, cold) if mine else _peak(result),
            roof if mine else "",
        )
        print(f"{label} " + " | ".join(cells) + " |")


if __name__ == "__main__":
    app.run(main)
