r"""Trains one architecture from scratch, with several seeds, and tests it.

    dnas train --config=digits --genotype=runs/digits/genotype.json --workdir=runs/digits-trained

The genotype is the file that a search wrote, or the text in which the space's authors publish
architectures, in quotes or in a file: '|nor_conv_3x3~0|+|...' of NAS-Bench-201, 'Genotype(normal=
[('sep_conv_3x3', 1), ...' of DARTS. The network is trained on the whole train split; the test
split is read once for every seed, at the end. The same command again resumes where it stopped.

Examples:
    # the published recipe of DARTS on CIFAR-10, in bfloat16, on all devices
    dnas train --config=darts_cifar10 --genotype=runs/darts/genotype.json \
        --workdir=runs/darts-trained --parallel=pmap --config.train.dtype=bfloat16 \
        --config.data.data_dir=DIR
    # a quick look
    dnas train --genotype=runs/digits/genotype.json --config.train.epochs=2

The working directory holds result.json, result.txt and a directory for each seed, with its
config.json, network.json (the task, with its normalisation), metrics.jsonl, TensorBoard events,
checkpoints and result.json; `dnas evaluate` reads it.

Settings of the search, such as space.channels or data.augment.flip, are refused: nothing reads
them here.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from dnas.cli import flags

_UNUSED = ("search", "compare_random", "table", "space.channels", "space.cells", "data.augment")


@dataclasses.dataclass(frozen=True)
class Job:
    """What config and genotype stand for.

    Attributes:
      space: with the channels and cells of the network.
      genotype: the architecture.
      data: the data set.
      train: `dnas.training.recipe.Settings`.
    """

    space: Any
    genotype: Any
    data: Any
    train: Any


def read_genotype(space: Any, given: str | None) -> Any:
    """Reads a genotype from a file or from its published text.

    Args:
      space: the search space.
      given: path of a file with JSON or the published text, or that text itself.

    Raises:
      ValueError: it is neither, or belongs to another space.
    """
    from dnas import capabilities
    from dnas.checks import shown
    from dnas.genotype import Genotype

    if not given:
        raise ValueError(
            "--genotype is missing: give the genotype.json of a search, or the published text"
        )
    text = given
    if os.path.isfile(given):
        with open(given, encoding="utf-8") as file:
            text = file.read().strip()
    elif "|" not in given and "(" not in given:
        raise ValueError(f"--genotype={shown(given)}: there is no such file")
    try:
        if text.startswith("{"):
            genotype = Genotype.from_json(text)
        else:
            genotype = capabilities.need(space, capabilities.Published, "this text").parse(text)
        space.validate(genotype)
    except ValueError as error:
        raise ValueError(
            f"--genotype, read as one of config.space.name={space.name!r}: {error}"
        ) from error
    return genotype


def prepare(settings: flags.Settings) -> Job:
    """Checks all settings and makes what they stand for.

    Raises:
      ValueError: a setting is wrong; the message names it.
    """
    from dnas import checks
    from dnas.cli import build
    from dnas.jobs import train

    config = settings.config
    for key in settings.given:
        if key.startswith(_UNUSED):
            raise ValueError(
                f"config.{key} has no effect here: it is the search's; "
                "the network and its training are config.train"
            )
    build.check_keys(config, ("seed", "space", "data", "train"))
    wanted = build.make_recipe(config)
    space = build.make_space(config, settings.given)
    genotype = read_genotype(space, absl_flags.FLAGS.genotype)
    with checks.naming("config"):
        space = wanted.sized(space)
    job = Job(space, genotype, build.make_data(config), wanted)
    with checks.naming("config.train"):
        train.check(job.space, job.genotype, job.data, wanted.recipe, settings.parallel)
    with checks.naming("config.data"):
        job.data.check()  # may read all examples, so it comes last
    return job


def run(settings: flags.Settings, job: Job) -> None:
    """Trains with every seed and prints the test scores."""
    from dnas import capabilities
    from dnas.evaluators import FullTraining
    from dnas.jobs import compare
    from dnas.runtime.workdir import open_workdir
    from dnas.training import trainer

    recipe, seeds = job.train.recipe, job.train.seeds
    config = trainer.describe(job.space, job.genotype, job.data, recipe, settings.parallel)
    config["seeds"] = list(seeds)
    with open_workdir(settings.workdir, config, free=("seeds",)) as files:
        training = FullTraining(
            *(job.space, job.data, recipe),
            files=files,
            name=lambda _: "",
            parallel=settings.parallel,
            progress=settings.progress,
        )
        row = compare.row("train", job.genotype, training, seeds)
        table = compare.format_rows(
            [row], seeds, compare.budget(job.data, recipe), job.data.task(measured=False).measure
        )
        files.write_json("result.json", row.as_dict() | {"seeds": list(seeds)})
        files.write_text("result.txt", table + "\n")
    print(f"\n{capabilities.as_text(job.space, job.genotype)}\n\ndata: {job.data.summary}\n{table}")
    print(f"files: {files.path or 'none; give --workdir to keep the result'}", flush=True)


def usage() -> str:
    """What --help shows above the flags."""
    from dnas.cli import usage as usages

    return usages.text(__doc__ or "", ("space", "data", "train", "seed"))


def main(argv: Sequence[str]) -> None:
    """Runs the command.

    Args:
      argv: its name and its arguments.
    """
    flags.define()
    absl_flags.DEFINE_string(
        "genotype", None, "File of a genotype, or its text as the space's authors publish it."
    )
    flags.main(argv, prepare, run, usage)
