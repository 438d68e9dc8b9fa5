"""What the compilers of GPUs and TPUs make of a search step, without a GPU or a TPU.

    pip install -e '.[aot]'      # the compilers, about 1.5 GB; in an environment of its own
    python -m experiments.benchmarks.aot --space=darts --target=h100,v5e:2x2

prints one row for each target; docs/benchmarks.md has such rows. Nothing runs: all figures but the
first two columns are the compilers' own, of programs and models, never measurements. See `columns`
for what a row says.
"""

import pathlib
import sys

from absl import app, flags

from experiments.benchmarks import options

_TARGETS = flags.DEFINE_list(
    "target", "h100", "What to compile for: h100, h100:4, h200, v5e, v5e:2x2, v6e:2x4, v5p:2x2x1."
)
_LIMIT = flags.DEFINE_integer(
    "limit", 600, "CPU seconds that a compilation may take.", lower_bound=1
)
_KEEP = flags.DEFINE_string("keep", None, "Folder for the texts of the compiled programs.")


def columns() -> tuple[str, ...]:
    """The columns of a row.

    - lower, compile: seconds to trace and lower the step, and to compile it.
    - CPU: seconds of the whole process, on all cores.
    - arguments, temporary, code: MB on one device, with the padding of tiles; the GPU compiler
      does not tell the code's.
    - launches: kernels that a step starts; loops count as often as they run. A TPU starts one
      kernel, whose operations are counted.
    - collectives: how many a step has, and the MB that one device gives.
    - cycles: millions that the TPU compiler expects of a step, without what it has no figure for.

    The batch of a row is that of all chips together. Where a compilation fails, or takes longer
    than its limit, the row says how.
    """
    return (
        "supernet",
        "hypergradient",
        "relaxation",
        "dtype",
        "batch",
        "target",
        "lower / compile, s",
        "CPU, s",
        "arguments / temporary / code, MB",
        "launches",
        "collectives",
        "cycles, M",
    )


def row(label: str, target: str, compiled) -> str:
    """A row of the table.

    Args:
      label: its first columns, as `Settings.label` has them.
      target: name of the target.
      compiled: a `compilers.process.Compiled`.
    """
    seconds = f"{compiled.lower:.3g} / {compiled.compile:.3g}"
    cpu = f"{compiled.cpu:.3g}"
    if compiled.failure:
        lower = f"{compiled.lower:.3g} / " if compiled.lower else ""
        message = compiled.failure.replace("|", "/")
        return f"{label} {target} | {lower}failed | {cpu} | {message} | | | |"
    sizes = (compiled.arguments, compiled.temporary, compiled.code)
    count, size = compiled.collectives
    cells = (
        target,
        seconds,
        cpu,
        " / ".join(_mega(n) for n in sizes),
        _by_kind(compiled.launches, str),
        f"{count}, {_mega(size)} MB" if count else "",
        _by_kind(compiled.cycles, _mega),
    )
    return f"{label} " + " | ".join(cells) + " |"


def _mega(number: float) -> str:
    return f"{number / 1e6:.3g}" if number < 1e9 else f"{number / 1e6:.0f}"


def _by_kind(counts: dict[str, int], shown) -> str:
    """The sum, and the parts by size."""
    parts = sorted(((n, kind) for kind, n in counts.items() if n), reverse=True)
    if not parts:
        return ""
    named = ", ".join(f"{shown(n)} {kind}" for n, kind in parts)
    return f"{shown(sum(n for n, _ in parts))}: {named}"


def main(argv: list[str]) -> None:
    """Compiles and prints."""
    del argv
    from experiments.benchmarks.compilers import process, targets

    try:
        settings = options.settings()
        chosen = [targets.parse(name) for name in _TARGETS.value]
        for target in chosen:
            if settings.batch % target.chips:
                raise ValueError(f"batch={settings.batch} does not divide among {target}")
        label = settings.label()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    folder = pathlib.Path(_KEEP.value) if _KEEP.value else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(columns()) + " |")
    print("|---" * len(columns()) + "|")
    failed = False
    for target in chosen:
        keep = "" if folder is None else str(folder / f"{settings.space}-{target}.hlo")
        compiled = process.measure(settings, target, _LIMIT.value, keep)
        print(row(label, str(target), compiled), flush=True)
        failed |= bool(compiled.failure)
    sys.exit(failed)


if __name__ == "__main__":
    app.run(main)
