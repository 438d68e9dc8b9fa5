r"""Tests a trained network on the test split of a data set.

    dnas evaluate --run=runs/digits-trained/seed-0

The run is the directory of one training. The data set is by default the one whose name its
config.json holds. Nothing is written, and nothing that was stored before is returned.

Examples:
    # where the training's data set lies
    dnas evaluate --run=runs/darts-trained/seed-0 --config.data.data_dir=DIR
    # another data set, with images of the same shape and the same classes
    dnas evaluate --run=runs/mine-trained/seed-0 --config.data.name=folder \
        --config.data.path=OTHERS --config.data.size=32 --output=others.json
    # a table: its file does not tell what is to be predicted
    dnas evaluate --run=runs/prices/compare/found/seed-0 --config.data.name=csv \
        --config.data.path=prices.csv --config.data.target=price
"""

import functools
import json
import pathlib
import sys
from typing import cast

from absl import flags

from dnas import data as datasets
from dnas.cli import keys
from dnas.runtime.checkpoints import CheckpointError

_DATA = "config.data."


def _define() -> flags.FlagValues:
    """The flags; not those of the process, since other scripts may be imported beside this one."""
    values = flags.FlagValues()
    text = functools.partial(flags.DEFINE_string, default=None, flag_values=values)
    number = functools.partial(flags.DEFINE_integer, flag_values=values)
    text("run", help="Directory of a finished training.")
    text("output", help="JSON file to write all numbers to.")
    number("batch_size", 256, "Examples at a time.")
    for name, key in _keys().items():
        text(f"{_DATA}{name}", help=key.help)
    flags.DEFINE_bool("progress", True, "Show progress.", flag_values=values)
    return values


def _keys() -> dict[str, keys.Key]:
    """The keys of a config that say which data set to read, and how."""
    section = cast(keys.Section, keys.SECTIONS["data"])
    return {
        name: key
        for name, key in section.items()
        if isinstance(key, keys.Key) and name != "train_limit"
    }


def main(argv: list[str]) -> int:
    """Runs the command; the errors of a user are a line on stderr.

    Args:
      argv: name of the command and its flags.

    Returns:
      The exit status.
    """
    values = _define()
    if {"--help", "-help", "-h", "-?"} & set(argv):
        print(f"{__doc__}\nflags:\n{values.get_help()}")
        return 0
    try:
        rest = values(argv)
        if len(rest) > 1:
            raise ValueError(f"unexpected argument {rest[1]!r}; flags are given as --name=value")
        if not values.run:
            raise ValueError("--run is missing: give the directory of a training")
        with datasets.bars(values.progress):
            _evaluate(values)
    except (flags.Error, ValueError, OSError, ImportError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _evaluate(values: flags.FlagValues) -> None:
    from dnas.jobs.evaluate import evaluate
    from dnas.jobs.opened import OpenedTraining
    from dnas.jobs.opened import open as open_run

    run = open_run(values.run)
    if not isinstance(run, OpenedTraining):
        raise ValueError(f"--run={values.run}: a search has no trained network")
    run.check_finished()
    trained_on = run.settings["data"]
    given = {
        n: key.read(_DATA + n, text)
        for n, key in _keys().items()
        if (text := values[_DATA + n].value) is not None
    }
    data = datasets.load(**{"name": trained_on["name"], **given})
    same = data.describe()["test"] == trained_on["test"]
    evaluation = evaluate(run, data, batch_size=values.batch_size)
    which = "the test split of the training" if same else "another test split than the training's"
    print(f"{data.name}, {which}\n{evaluation.format_table()}")
    if values.output:
        pathlib.Path(values.output).write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n")
        print(f"file: {values.output}")
