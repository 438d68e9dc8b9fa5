r"""Searches an architecture, and says how good it is.

    python -m experiments.search --config=experiments/configs/digits.py --workdir=runs/digits

Without --config it runs the embedded digits (about two minutes on two cores). The same command
again resumes where it stopped: SIGTERM and Ctrl-C save first, and exit with 0.

Examples:
    # another seed, a smaller network, fewer epochs
    python -m experiments.search --workdir=runs/a --config.seed=1 --config.space.channels=4 \
        --config.search.epochs=5
    # another method, with one of its numbers changed
    python -m experiments.search --config.preset=pc_darts --config.search.batch_size=64
    # its parts with others: a price on parameters, and the selection of DARTS-PT
    python -m experiments.search --config.search.regularizer=parameters \
        --config.search.regularizer_weight=0.5 --config.search.selection=perturbation
    # the second-order gradient; samples in place of mixtures
    python -m experiments.search --config.search.hypergradient=unrolled
    python -m experiments.search --config.search.relaxation=gumbel_softmax
    # real CIFAR-10 (prepared with tensorflow-datasets), and what NAS-Bench-201 says of the result
    python -m experiments.search --config=experiments/configs/nas_bench_201.py \
        --workdir=runs/nb201 --config.data.data_dir=DIR --config.table=TABLE.csv

Settings, given as --config.KEY=VALUE (those that nothing reads are refused):
    seed                        of everything random
    space.name                  nas_bench_201 or darts
    space.channels, .cells      size of the supernet (cells: in a stage, or in all)
    space.nodes                 nodes of a cell
    space.stages                nas_bench_201 only: stages, with a reduction between each two
    space.stem_multiplier, .stem, .subset   darts only; the stem is cifar or imagenet, the subset
                                one of s1, s2, s3, s4
    data.name                   digits (embedded), folder, arrays, or an image set of
                                tensorflow-datasets
    data.data_dir               where the sets of tensorflow-datasets lie
    data.path                   of a folder of images (train/CLASS/NAME.png, and test/ likewise, or
                                a fifth of each class is the test split), or of an .npz of arrays
                                (x_train, y_train, x_test, y_test)
    data.size                   a folder's images become squares of so many pixels a side
    data.train_limit            use only so many train images
    data.pool                   average images over squares of so many pixels
    data.crop_padding, .flip, .cutout       augmentation during the search
    preset                      the method, whose numbers give way to those that the config file
                                sets in search.* (digits.py: darts, 50 epochs, alphas at 3e-3):
                                dnas, darts, darts_second_order, snas, gdas, pc_darts, p_darts,
                                fair_darts, darts_minus, drnas, sdarts_rs, sdarts_adv, r_darts,
                                darts_plus, darts_pt, beta_darts, lambda_darts, i_darts, oles,
                                single_level, random_weight_sharing
    search.*                    other values than the method's, which has them all; a part that is
                                named takes the place of the method's own, with its settings in
                                parentheses:
    search.epochs, .batch_size, .warmup     the last: share of the epochs without alphas
    search.alpha_interval       steps of the weights for each of alphas
    search.hypergradient        first_order, unrolled (inner_steps), finite_difference (radius),
                                neumann (terms, series_learning_rate), conjugate_gradient
                                (iterations, damping), joint, frozen
    search.relaxation           softmax, gumbel_softmax (temperature, final_temperature, hard),
                                reinmax (temperature, final_temperature), dirichlet, sigmoid,
                                sparsemax, entmax15, uniform_sample
    search.regularizer          none, beta_decay, zero_one, entropy, l2, kl_anchor, parameters,
                                multiply_adds (regularizer_weight, final_regularizer_weight)
    search.perturbation         none, random_smoothing, adversarial (perturbation_radius,
                                final_perturbation_radius)
    search.stopping             never, eigenvalue_ratio, skip_count (skip_limit)
    search.selection            strongest, limited_skips (skips: in normal cells, 2),
                                largest_of_close (deviations), perturbation, progressive
                                (tuning_epochs), best_of_samples (samples), local_search,
                                short_trainings (training_epochs; begins with the largest of close
                                options (deviations) and in every cell 2 skips at most (skips))
    search.learning_rate, .final_learning_rate, .momentum, .weight_decay, .clip_norm    of weights
    search.alpha_learning_rate, .alpha_betas, .alpha_weight_decay, .alpha_scale         of alphas
    table                       result table of NAS-Bench-201 to look the result up in (CSV)
    compare_random              train the result and so many random architectures, as train.* says
    train.*                     see python -m experiments.train --help

The working directory holds config.json, metrics.jsonl, TensorBoard events, checkpoints,
alphas.npz (their history), genotype.json, report.json, and the table of the comparison.
"""

import dataclasses
import pathlib
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
      augment: what is done to images.
      table: the tabular benchmark, or None.
      train: how architectures are compared (`dnas.jobs.recipe.Settings`), or None.
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
        return dataclasses.replace(self.space, channels=self.train.channels, cells=self.train.cells)


def prepare(settings: flags.Settings) -> Job:
    """Checks all settings and makes what they stand for.

    Raises:
      ValueError: a setting is wrong; the message names it.
    """
    from dnas import checks
    from dnas.cli import build
    from dnas.jobs import stages
    from dnas.jobs.search import check_augment, check_batch, check_table

    config = settings.config
    build.check_keys(config, ("seed", "preset", "space", "data", "search"))
    job = Job(
        space=build.make_space(config, flags.given()),
        preset=build.make_preset(config),
        augment=build.make_augment(config),
        train=_prepare_training(config),
        table=build.make_table(config),
        data=build.make_data(config),
    )
    with build.naming("config.search"):
        check_batch(job.data, job.preset.batch_size, settings.parallel)
        checks.steps(job.preset.epochs, len(job.data.train) // 2 // job.preset.batch_size)
    with build.naming("config.search"):
        task = job.data.task(job.augment, measured=False)
        stages.check(job.preset, job.space, job.preset.epochs, task)
    with build.naming("config.data"):
        check_augment(job.data, job.augment)
    if job.table is not None:
        with build.naming("config.table"):
            check_table(job.table, job.space, job.data.name)
    if job.train is not None:
        _check_training(settings, job)
    with build.naming("config.data"):
        job.data.check()  # may read all labels, so it comes last
    return job


def _prepare_training(config: Any) -> Any:
    """The section `train` where architectures are compared; None where not."""
    from dnas import checks
    from dnas.cli import build

    random = config.get("compare_random") or 0
    checks.whole("config.compare_random", random, least=0)
    if random:
        if config.get("train") is None:
            raise ValueError(
                f"config.compare_random={random} needs the section config.train, which says how "
                "the architectures are trained; this config has none"
            )
        return build.make_recipe(config)
    for key in flags.given():
        if key.startswith("train."):
            raise ValueError(
                f"config.{key} has no effect without config.compare_random: nothing is trained"
            )
    return None


def _check_training(settings: flags.Settings, job: Job) -> None:
    """Checks `config.train`, also against a comparison that the working directory holds."""
    import numpy as np

    from dnas.cli import build
    from dnas.jobs import compare, train
    from dnas.runtime import workdir

    with build.naming("config.train"):
        space = job.trained_space
        any_genotype = space.sample(np.random.default_rng(0))
        train.check(space, any_genotype, job.data, job.train.recipe, settings.parallel)
    if settings.workdir:
        config = compare.describe(
            *(space, any_genotype, job.data, job.train.recipe, settings.parallel),
            random=settings.config.compare_random,
            seeds=job.train.seeds,
            rng_seed=settings.config.seed,
        )
        # Which architecture is found is not known yet; the search itself checks the seed.
        folder = pathlib.Path(settings.workdir) / COMPARISON
        workdir.check_workdir(folder, config, (*compare.FREE, "genotype", "rng_seed"))


def run(settings: flags.Settings, job: Job) -> None:
    """Searches, prints what was found, and compares it with random architectures if asked to."""
    from dnas import discretize
    from dnas.jobs.search import search

    config = settings.config
    result = search(
        job.space,
        job.data,
        job.preset,
        seed=config.seed,
        workdir=settings.workdir,
        augment=job.augment,
        parallel=settings.parallel,
        table=job.table,
        progress=settings.progress,
        config=config.to_dict(),
    )
    doubt = ", but see the warnings below" if result.warnings else ""
    print(f"\ndata: {job.data.summary}\nfound{doubt}: {job.space.format(result.genotype)}\n")
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
        random=settings.config.compare_random,
        seeds=job.train.seeds,
        rng_seed=settings.config.seed,
        workdir=result.workdir and result.workdir / COMPARISON,
        parallel=settings.parallel,
        progress=settings.progress,
    )
    print(f"\n{comparison.format_table()}")


def main() -> None:
    """Runs the command."""
    flags.define()
    flags.main(prepare, run)
