"""One compilation in a process of its own: compilers abort, and some do not finish."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from experiments.benchmarks.compilers import program, targets
from experiments.benchmarks.compilers.targets import Target
from experiments.benchmarks.settings import Settings

# XLA's last words, and the pass whose frame stands in the stack below them.
_FATAL = re.compile(r"^F\d+ [\d:.]+\s+\d+ (\S+:\d+)\] (.*)$", re.MULTILINE)
_PASS = re.compile(r"\bxla::([\w:]*?)(?:\(anonymous namespace\)::)?(\w+)::(?:RunImpl|Run)\(\)")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Interrupt)): (.*)$", re.MULTILINE)
_MACHINERY = frozenset({"HloPassInterface", "HloPassPipeline"})
# What a process needs to compile for chips that are not there.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else one process of a machine has the compiler to itself
    "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to ask about
}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiler made of a step.

    Attributes:
      cpu: CPU seconds of the whole process.
      failure: how it failed; empty if it did not. The following are 0 or empty from there on.
      lower: seconds to trace and lower the step.
      compile: seconds to compile it.
      arguments: bytes of the step's arguments on a device, with the padding of tiles.
      temporary: bytes of what lies between its operations.
      code: bytes of the program.
      launches: see `program.launches`.
      collectives: see `program.collectives`.
      cycles: see `program.cycles`.
    """

    cpu: float
    failure: str = ""
    lower: float = 0.0
    compile: float = 0.0
    arguments: int = 0
    temporary: int = 0
    code: int = 0
    launches: dict[str, int] = dataclasses.field(default_factory=dict)
    collectives: tuple[int, int] = (0, 0)
    cycles: dict[str, int] = dataclasses.field(default_factory=dict)


def measure(settings: Settings, target: Target, limit: int, keep: str = "") -> Compiled:
    """Compiles a search step in a new process.

    Args:
      settings: which step.
      target: what for; chips divide the batch among them.
      limit: CPU seconds that it may take, and four times as many on the clock.
      keep: file for the text of the compiled program; by default it is not kept.
    """
    command = [sys.executable, "-m", "experiments.benchmarks.compilers.process"]
    command += [json.dumps(dataclasses.asdict(settings)), str(target), str(limit), keep]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        late = False
        try:
            output, errors = child.communicate(timeout=4 * limit)
        except subprocess.TimeoutExpired:
            late = True
            child.kill()
            output, errors = child.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stages: dict[str, Any] = {}
    for line in output.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            stages |= json.loads(line) if line.startswith("{") else {}
    if "collectives" in stages:
        stages["collectives"] = tuple(stages["collectives"])
    # A process that ignores the system's signal at the limit is killed ten seconds later.
    late |= child.returncode == -signal.SIGKILL and cpu >= limit
    failure = ""
    if child.returncode:
        failure = why(-signal.SIGXCPU if late else child.returncode, errors)
        failure = f"{'compiling' if stages else 'lowering'}: {failure}"
    return Compiled(cpu=cpu, failure=failure, **stages)


def why(code: int, errors: str) -> str:
    """How a process failed: its signal, the compiler's pass, the last message.

    Args:
      code: its return code; negative for signals.
      errors: what it wrote to stderr.
    """
    if code == -signal.SIGXCPU:
        return "over the limit of time"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    parts = [name]
    if fatal := _FATAL.search(errors):
        frames = (f[2] for f in _PASS.finditer(errors, fatal.end()) if f[2] not in _MACHINERY)
        if (found := next(frames, None)) is not None:
            parts.append(f"pass {found}")
        parts.append(f"{fatal[1]} {fatal[2].strip()}")
    elif raised := list(_ERROR.finditer(errors)):
        parts.append(f"{raised[-1][1]}: {raised[-1][2]}")
    return ", ".join(parts)[:400]


def main(settings: str, target: str, limit: str, keep: str) -> None:
    """Compiles in this process, and prints every stage's result as a line of JSON."""
    seconds = int(limit)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _compile(Settings(**json.loads(settings)), targets.parse(target), keep)


def _compile(settings: Settings, target: Target, keep: str) -> None:
    import jax

    from experiments.benchmarks import hlo

    start = time.perf_counter()
    function, arguments = _step(settings, target)
    traced = jax.jit(function, donate_argnums=0).trace(*arguments)
    lowered = traced.lower(lowering_platforms=(target.platform,))
    done = time.perf_counter()
    print(json.dumps({"lower": done - start}), flush=True)
    compiled = lowered.compile()
    result: dict[str, Any] = {"compile": time.perf_counter() - done}
    if memory := compiled.memory_analysis():
        result["arguments"] = memory.argument_size_in_bytes
        result["temporary"] = memory.temp_size_in_bytes
        result["code"] = memory.generated_code_size_in_bytes
    text = compiled.as_text()
    if keep:
        pathlib.Path(keep).write_text(text)
    module = hlo.parse(text)
    result["launches"] = program.launches(module)
    result["collectives"] = program.collectives(module)
    result["cycles"] = program.cycles(module)
    print(json.dumps(result), flush=True)


def _step(settings: Settings, target: Target):
    """The loop of steps that searches run, for all chips of a target, and its arguments' shapes."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from dnas.runtime import parallel

    axis = "replicas" if target.chips > 1 else None
    step, init = settings.make_search(axis)
    function = parallel.loop(step)
    key = jax.random.key(0)
    keys = jax.random.split(key, settings.population) if settings.population > 1 else key
    state = jax.eval_shape(init, keys)
    # As in searches, a program takes several batches, and the count of its steps is an argument.
    batches = jax.tree.map(lambda x: x[None], settings.batches())
    mesh = jax.sharding.Mesh(np.array(target.devices()), ("replicas",))
    everywhere, shared = P(), P(None, "replicas")
    if axis is not None:
        function = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(everywhere, shared, everywhere),
            out_specs=everywhere,
            check_vma=False,
        )

    def shapes(tree, spec):
        place = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    count = jax.ShapeDtypeStruct((), jnp.int32)
    return function, (
        shapes(state, everywhere),
        shapes(batches, shared),
        shapes(count, everywhere),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
