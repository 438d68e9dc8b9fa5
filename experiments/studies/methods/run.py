"""All presets under one budget, over several seeds.

    python -m experiments.studies.methods --data_dir=DIR --table=TABLE.csv --out=DIR
    python -m experiments.studies.methods --table=TABLE.csv --out=DIR --report=FILE.md

Each run, of one preset with one seed, adds one line to OUT/SETTING.jsonl. What is there is not
computed again unless the preset's numbers changed, so the comparison can be interrupted, and run in
pieces. Of several lines for a preset and a seed the last counts. Code is not compared: remove the
lines of presets whose code changed.

Processes may share the folder as long as their --settings, --presets or --seeds differ. On a CPU
two processes with a core each (`taskset -c 0 ...`) do more than one with two. With a folder in
$JAX_COMPILATION_CACHE_DIR other seeds of a preset need not compile again.

The report is a table of means and standard deviations over seeds, written to FILE.md, and pictures
beside it, FILE-SETTING.png.

Settings (settings.py has their numbers): nb201, the NAS-Bench-201 space on CIFAR-10, scored by the
table; nb201_slow, the same with the published learning rates of alphas; s1 to s4, the subsets of
RobustDARTS, scored by a training from scratch.

Controls without a search: random, and largest (the most parameters). Controls with the short
trainings that end a search of the preset dnas, begun at the strongest options with two skip
connections a cell at most: random_corrected and largest_corrected, the same architectures after
them. Other controls: random_weight_sharing_4x, with four times the epochs; drnas_single_stage, on
all channels and without shrinking.
"""

import dataclasses
import fcntl
import itertools
import json
import pathlib
import sys
import time
import traceback
from typing import Any

from absl import app, flags, logging

_SETTINGS = flags.DEFINE_list("settings", None, "Settings; all by default.")
_PRESETS = flags.DEFINE_list("presets", None, "Presets and controls; all by default.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3"], "Seeds.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared TensorFlow Datasets.")
_TABLE = flags.DEFINE_string("table", None, "Table of NAS-Bench-201 (CSV).")
_OUT = flags.DEFINE_string("out", None, "Folder of the results.", required=True)
_REPORT = flags.DEFINE_string("report", None, "Only write this report, a markdown file.")


def run(name: str, method: str, seed: int, data_dir: str | None, table: Any) -> dict[str, Any]:
    """One search, or one control, and what its architecture is worth."""
    from dnas.data import Augment
    from dnas.jobs.search import search
    from experiments.studies.methods.settings import CONTROLS, SETTINGS, digest

    setting, began = SETTINGS[name], time.monotonic()
    details: dict[str, Any] = {}
    if method in CONTROLS:
        genotype = setting.control(method, seed)
    else:
        preset = setting.preset(method)
        clock = _Clock()
        result = search(
            setting.space,
            setting.data(data_dir, seed),
            dataclasses.replace(preset, selection=clock.times(preset.selection)),
            seed=seed,
            augment=Augment(crop_padding=4 // setting.pool, flip=True),
            progress=False,
        )
        genotype = result.genotype
        details = {
            "preset_digest": digest(preset),
            "selection_seconds": round(clock.seconds, 1),
            "alpha_learning_rate": preset.alpha_learning_rate,
            "epoch": result.epoch,
            "valid_accuracy": round(100 * result.history[-1]["valid_accuracy"], 2),
            "idle_by_epoch": setting.idle_by_epoch(preset, result.trajectory),
            "selection": _short(result.selection),
        }
    seconds = time.monotonic() - began
    return {
        "preset": method,
        "seed": seed,
        "seconds": round(seconds, 1),
        "genotype": setting.space.format(genotype),
        "scores": setting.score(genotype, seed, data_dir, table),
        **details,
    }


def _short(record: Any) -> Any:
    """Plain data with four decimals."""
    return json.loads(json.dumps(record), parse_float=lambda text: round(float(text), 4))


class _Clock:
    """Times selections: they come on top of the budget."""

    def __init__(self):
        self.seconds = 0.0

    def times(self, selection: Any) -> Any:
        """The same selection, timed; None stays None."""

        def timed(trained: Any) -> Any:
            from dnas.parts import made

            began = time.monotonic()
            selected = made(selection, space=trained.space)(trained)
            self.seconds += time.monotonic() - began
            return selected

        return None if selection is None else timed


def stored(path: pathlib.Path, budget: dict[str, Any]) -> dict[tuple[str, int], str | None]:
    """Presets and seeds whose results are there, with the digest of the preset.

    Raises:
      ValueError: these are results of another budget.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines:  # another process may be about to write the first
        return {}
    first, *results = map(json.loads, lines)
    found = first["budget"]
    if found != budget:
        differ = sorted(key for key in found | budget if found.get(key) != budget.get(key))
        raise ValueError(f"{path} holds results of another budget ({differ}): choose another --out")
    return {(r["preset"], r["seed"]): r.get("preset_digest") for r in results}


def append(path: pathlib.Path, budget: dict[str, Any], result: dict[str, Any]) -> None:
    """Adds a line; the first of a file tells the budget."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # other processes may add theirs
        lines = [result] if path.stat().st_size else [{"budget": budget}, result]
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def main(argv: list[str]) -> None:
    """Runs what is not there yet, or writes the report."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.WARNING)  # libraries are talkative at INFO
    import jax

    from dnas.benchmarks import NASBench201
    from dnas.runtime.loop import Stopped
    from experiments.studies.methods import report
    from experiments.studies.methods.settings import CONTROLS, DATA, METHODS, SETTINGS, digest

    out = pathlib.Path(_OUT.value)
    table = NASBench201(_TABLE.value) if _TABLE.value else None
    if _REPORT.value:
        try:
            report.write(out, pathlib.Path(_REPORT.value), table)
        except ValueError as error:
            sys.exit(f"error: {error}")
        return
    settings = _chosen("settings", _SETTINGS.value, tuple(SETTINGS))
    methods = _chosen("presets", _PRESETS.value, (*CONTROLS, *METHODS))
    scored = [name for name in settings if SETTINGS[name].recipe is None]
    if scored and table is None:
        raise app.UsageError(f"--settings: {scored[0]} needs --table")
    if (set(methods) - set(CONTROLS) or len(scored) < len(settings)) and not _DATA_DIR.value:
        raise app.UsageError("--data_dir is missing: the folder of prepared TensorFlow Datasets")
    if wrong := [seed for seed in _SEEDS.value if not seed.isdecimal()]:
        raise app.UsageError(f"--seeds: {wrong[0]!r} is no whole number of at least 0")
    if _DATA_DIR.value and not pathlib.Path(_DATA_DIR.value, DATA).is_dir():
        raise app.UsageError(f"--data_dir: {_DATA_DIR.value} has no prepared {DATA}")
    failed = 0
    for seed, name, method in itertools.product(map(int, _SEEDS.value), settings, methods):
        setting = SETTINGS[name]
        path, budget = out / f"{name}.jsonl", setting.describe()
        settings_of = None if method in CONTROLS else digest(setting.preset(method))
        if stored(path, budget).get((method, seed), "") == settings_of:
            continue
        print(f"{name} {method} {seed}", end=" ", flush=True)
        try:
            result = run(name, method, seed, _DATA_DIR.value, table)
        except Stopped as stopped:
            sys.exit(
                f"{stopped.args[0].split(' after')[0]}; the same command goes on with this run"
            )
        except Exception:  # the others shall not wait for its repair
            failed += 1
            print("failed", flush=True)
            traceback.print_exc()
            continue
        finally:
            jax.clear_caches()  # every preset has programs of its own
        append(path, budget, result)
        scores = {key: round(value, 2) for key, value in result["scores"].items()}
        print(f"{result['seconds']:.0f} s {scores}", flush=True)
    if failed:
        sys.exit(f"{failed} runs failed; the same command tries them again")


def _chosen(flag: str, names: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    names = known if names is None else tuple(names)
    if unknown := sorted(set(names) - set(known)):
        raise app.UsageError(f"--{flag}: {unknown[0]!r} is none of {', '.join(known)}")
    return names
