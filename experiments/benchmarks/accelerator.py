"""All measurements of one accelerator by one command, in the time that there is.

    experiments/benchmarks/accelerator.sh --out=FOLDER
    experiments/benchmarks/accelerator.sh --out=FOLDER --device=cpu --quick

Cases run one after the other, the most telling first, each in a process of its own: a compiler that
aborts, or memory that does not suffice, costs one row. Before, where there are cores for it, all
programs are compiled side by side into a cache. FOLDER gets

    results.jsonl  a line for each case, written as soon as it is known
    summary.md     the table
    log.txt        what the cases print, such as compilers' messages
    tests.txt      what pytest prints

The second command rehearses the first on a CPU, with tiny supernets.
"""

import json
import os
import pathlib
import time
from typing import Any

from absl import app, flags

from experiments.benchmarks import accelerator_plan as plan

_OUT = flags.DEFINE_string("out", None, "Folder of the results.", required=True)
_DEVICE = flags.DEFINE_enum("device", "gpu", ["gpu", "tpu", "cpu"], "Platform.")
_QUICK = flags.DEFINE_bool("quick", False, "Tiny supernets: a rehearsal.")
_MINUTES = flags.DEFINE_float("minutes", 9.0, "Time for everything.", lower_bound=0.0)
_DATA = flags.DEFINE_string("data", None, "CIFAR-10 to search on, an .npz; by default the digits.")
_TABLE = flags.DEFINE_string("table", None, "Table of NAS-Bench-201, to score what is found.")


def main(argv: list[str]) -> None:
    """Measures and writes."""
    del argv
    end = time.monotonic() + 60 * _MINUTES.value
    out = pathlib.Path(_OUT.value).absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(_DEVICE.value, _DEVICE.value)
    if _DEVICE.value == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch's, too
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "float32"  # of tests; others say theirs
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "cache"))
    chosen = [_with_data(case) for case in plan.cases(_QUICK.value)]
    if _DEVICE.value != "tpu":  # which one process has to itself
        plan.compile_all(chosen, (end - time.monotonic()) / 3, out / "log.txt")
    results: list[dict[str, Any]] = []
    with (out / "results.jsonl").open("w") as lines:
        for case in chosen:
            results.append(plan.measure(case, end - time.monotonic(), out))
            print(json.dumps(results[-1]), file=lines, flush=True)
            (out / "summary.md").write_text(plan.summary(results))
    print(plan.summary(results))


def _with_data(case: plan.Case) -> plan.Case:
    if case.kind != "search":
        return case
    files = {"data": _DATA.value, "table": _TABLE.value}
    absolute = {k: v and str(pathlib.Path(v).absolute()) for k, v in files.items()}
    return case._replace(settings=case.settings | absolute)


if __name__ == "__main__":
    app.run(main)
