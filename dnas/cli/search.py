r"""Searches an architecture, and says how good it is.

    dnas search --config=digits --workdir=runs/digits

Without --config it runs the embedded digits (about two minutes on two cores). The same command
again resumes where it stopped: SIGTERM and Ctrl-C save first, and exit with 0.

Examples:
    # another seed, a smaller network, fewer epochs
    dnas search --workdir=runs/a --config.seed=1 --config.space.channels=4 --config.search.epochs=5
    # another method, with one of its numbers changed
    dnas search --config.preset=pc_darts --config.search.batch_size=64
    # a setting of one of its parts
    dnas search --config.preset=gdas "--config.search.relaxation.temperature=(5.0,0.5)"
    # its parts with others: a price on parameters, and the selection of DARTS-PT
    dnas search --config.search.regularizers.name=parameters \
        --config.search.regularizers.weight=0.5 --config.search.selection.name=perturbation
    # the second-order gradient; samples in place of mixtures
    dnas search --config.search.hypergradient.name=unrolled
    dnas search --config.search.relaxation.name=gumbel_softmax
    # real CIFAR-10 (prepared with tensorflow-datasets), and what NAS-Bench-201 says of the result
    dnas search --config=nas_bench_201 --workdir=runs/nb201 --config.data.data_dir=DIR \
        --config.table=TABLE.csv

The working directory holds config.json, metrics.jsonl, TensorBoard events, checkpoints,
alphas.npz (their history), genotype.json, report.json, and the table of the comparison.

What is set in search.* changes the method, which has all numbers and parts; a part that is named
takes the place of the method's own. Settings that nothing reads are refused.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from dnas.cli import flags

COMPARISON = "compare"  # the directory of the comparison in the working directory


@dataclasses.dataclass(frozen=True)
class Job:
    """What a config stands for; see `dnas.cli.build`.

    Attributes:
      space: the search space, with the supernet's size.
      data: the data set.
      preset: the method.
      augment: what is done to examples in training.
      table: the tabular benchmark, or None.
      train: how architectures are compared (`dnas.training.recipe.Settings`), or None.
    """

    space: Any
    data: Any
    preset: Any
    augment: Any
    table: Any
    train: Any

    @property
    def trained_space(self) -> Any:
        """The space with the size of the networks to compare."""
        return self.train.sized(self.space)


def prepare(settings: flags.Settings) -> Job:
    """Checks all settings and makes what they stand for.

    Raises:
      ValueError: a setting is wrong; the message names it.
    """
    from dnas import checks
    from dnas.cli import build
    from dnas.jobs import arguments, stages
    from dnas.jobs.search import check_batch, check_table

    config = settings.config
    build.check_keys(config, ("seed", "preset", "space", "data", "search"))
    job = Job(
        space=build.make_space(config, settings.given),
        preset=build.make_preset(config),
        augment=build.make_augment(config),
        train=_prepare_training(settings),
        table=build.make_table(config),
        data=build.make_data(config),
    )
    with checks.naming("config.search"):
        check_batch(job.data, job.preset.batch_size, settings.parallel)
        checks.steps(job.preset.epochs, len(job.data.train) // 2 // job.preset.batch_size)
    with checks.naming("config.data"):
        task = job.data.task(job.augment, measured=False)
    with checks.naming("config.data.augment"):
        arguments.check_prepared(task)
    with checks.naming("config.search"):
        stages.check(job.preset, job.space, job.preset.epochs, task)
    if job.table is not None:
        with checks.naming("config.table"):
            check_table(job.table, job.space, job.data.name)
    if job.train is not None:
        _check_training(settings, job)
    with checks.naming("config.data"):
        job.data.check()  # may read all examples, so it comes last
    return job


def _prepare_training(settings: flags.Settings) -> Any:
    """The section `train` where architectures are compared; None where not."""
    from dnas import checks
    from dnas.cli import build

    config = settings.config
    random = config.get("compare_random") or 0
    checks.whole("config.compare_random", random, least=0)
    if random:
        if config.get("train") is None:
            raise ValueError(
                f"config.compare_random={random} needs the section config.train, which says how "
                "the architectures are trained; this config has none"
            )
        return build.make_recipe(config)
    for key in settings.given:
        if key.startswith("train."):
            raise ValueError(
                f"config.{key} has no effect without config.compare_random: nothing is trained"
            )
    return None


def _check_training(settings: flags.Settings, job: Job) -> None:
    """Checks `config.train`, also against a comparison that the working directory holds."""
    import numpy as np

    from dnas import checks
    from dnas.jobs import compare, train
    from dnas.runtime import workdir

    with checks.naming("config"):
        space = job.trained_space
    with checks.naming("config.train"):
        any_genotype = space.sample(np.random.default_rng(0))
        train.check(space, any_genotype, job.data, job.train.recipe, settings.parallel)
    if settings.workdir:
        config = compare.describe(
            *(space, any_genotype, job.data, job.train.recipe, settings.parallel),
            random=settings.config["compare_random"],
            seeds=job.train.seeds,
            rng_seed=settings.config["seed"],
        )
        # Which architecture is found is not known yet; the search itself checks the seed.
        folder = pathlib.Path(settings.workdir) / COMPARISON
        workdir.check_workdir(folder, config, (*compare.FREE, "genotype", "rng_seed"))


def run(settings: flags.Settings, job: Job) -> None:
    """Searches, prints what was found, and compares it with random architectures if asked to."""
    from dnas import capabilities, discretize
    from dnas.jobs.search import search

    config = settings.config
    result = search(
        job.space,
        job.data,
        job.preset,
        seed=config["seed"],
        workdir=settings.workdir,
        augment=job.augment,
        parallel=settings.parallel,
        table=job.table,
        progress=settings.progress,
        config=config,
    )
    doubt = ", but see the warnings below" if result.warnings else ""
    found = capabilities.as_text(job.space, result.genotype)
    print(f"\ndata: {job.data.summary}\nfound{doubt}: {found}\n")
    if result.selection:
        print("by a selection, whose decisions report.json tells; the mixture before it:")
    print(discretize.summary(result.report))
    for warning in result.warnings:
        print(f"warning: {warning}")
    if result.benchmark:
        print(
            "NAS-Bench-201, {dataset}: test accuracy {test_accuracy:.2f} %, validation accuracy "
            "{valid_accuracy:.2f} %, rank {rank:,} of 15,625".format(**result.benchmark)
        )
    if job.train is not None:
        _compare(settings, job, result)
    print(f"files: {result.workdir or 'none; give --workdir to keep the result'}", flush=True)


def _compare(settings: flags.Settings, job: Job, result: Any) -> None:
    """Trains the result and random architectures, and prints the table."""
    from dnas.jobs import compare

    comparison = compare.compare(
        job.trained_space,
        result.genotype,
        job.data,
        job.train.recipe,
        random=settings.config["compare_random"],
        seeds=job.train.seeds,
        rng_seed=settings.config["seed"],
        workdir=result.workdir and result.workdir / COMPARISON,
        parallel=settings.parallel,
        progress=settings.progress,
    )
    print(f"\n{comparison.format_table()}")


def usage() -> str:
    """What --help shows above the flags."""
    from dnas.cli import keys
    from dnas.cli import usage as usages

    return usages.text(__doc__ or "", [*keys.SECTIONS])


def main(argv: Sequence[str]) -> None:
    """Runs the command.

    Args:
      argv: its name and its arguments.
    """
    flags.define()
    flags.main(argv, prepare, run, usage)
