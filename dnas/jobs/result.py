"""What a search found, and the files that say so."""

import dataclasses
import io
import pathlib
import warnings
from typing import Any

import numpy as np

from dnas import discretize
from dnas.capabilities import Layered
from dnas.data import Augment, Dataset
from dnas.evaluators import Lookup
from dnas.genotype import Genotype
from dnas.jobs import doubts
from dnas.jobs.stages import Searched
from dnas.jobs.trained import trained
from dnas.jobs.trajectory import tables
from dnas.runtime.interrupts import Interrupts
from dnas.runtime.journal import Journal
from dnas.runtime.workdir import DamagedError, Workdir
from dnas.space import SearchSpace

_SELECTION = "selection.json"


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      genotype: the architecture.
      alphas: the architecture parameters at the end, ``[rows, options]`` for each table.
      mix: the mixing weights that they stand for, of the same shapes.
      history: one dictionary for each epoch: epoch, step, losses and metrics of the task.
      trajectory: alphas and mixing weights over time, ``[epochs + 1, rows, options]`` by
        ``'alphas/<table>'`` and ``'mix/<table>'``; the first entry is the initialisation. Of a
        search in several stages it is that of the last, as are `alphas`, `mix` and `report`.
      report: how decided the mixing weights are, see `dnas.discretize.report`.
      epoch: whose alphas these are: the last, unless a stopping rule named another.
      selection: the record of the selection, see `dnas.selection`; None where there was none.
      warnings: what speaks against the result, see `dnas.jobs.doubts` and
        `dnas.discretize.collapse_warning`; most often nothing.
      benchmark: what the table of a tabular benchmark says about the genotype (its number,
        accuracies in per cent, rank by test accuracy), or None.
      workdir: where the files lie, or None.
    """

    genotype: Genotype
    alphas: dict[str, np.ndarray] = dataclasses.field(repr=False)
    mix: dict[str, np.ndarray] = dataclasses.field(repr=False)
    history: list[dict[str, float]] = dataclasses.field(repr=False)
    trajectory: dict[str, np.ndarray] = dataclasses.field(repr=False)
    report: dict[str, Any] = dataclasses.field(repr=False)
    epoch: int = 0
    selection: list[dict[str, Any]] | None = dataclasses.field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    benchmark: dict[str, float] | None = None
    workdir: pathlib.Path | None = None


def conclude(
    searched: Searched,
    data: Dataset,
    augment: Augment,
    files: Workdir,
    table: Lookup | None,
    progress: bool,
) -> SearchResult:
    """Makes the result of a search that ended, and writes its genotype and report."""
    mix = searched.at_end("mix")
    genotype, selection, measured = _select(searched, data, augment, files, progress)
    files.write_text("genotype.json", genotype.to_json())
    report = discretize.report(mix, searched.space.decisions)
    result = SearchResult(
        genotype=genotype,
        alphas=searched.at_end("alphas"),
        mix=mix,
        history=searched.history,
        trajectory=searched.trajectory,
        report=report,
        epoch=searched.epoch,
        selection=selection,
        warnings=_doubts(searched, report, genotype, data, measured),
        workdir=files.path,
    )
    facts = {"report": report, "warnings": result.warnings, "benchmark": None}
    facts |= {"epoch": searched.epoch, "selection": selection}
    files.write_json("report.json", facts)
    if table is not None:  # whatever may go wrong there, the report is safe
        facts["benchmark"] = table.look_up(genotype, data.name)
        files.write_json("report.json", facts)
    result = dataclasses.replace(result, benchmark=facts["benchmark"])
    _draw(searched.space, result, files)
    return result


def _doubts(
    searched: Searched, report: dict[str, Any], genotype: Genotype, data: Dataset, measured: bool
) -> tuple[str, ...]:
    """What speaks against the result. A selection that measures does not need decided alphas."""
    alphas, frozen = searched.at_end("alphas"), searched.method.frozen
    every = (
        None if measured else doubts.undecided(report, searched.initial, alphas),
        doubts.worse_than_chance(searched.history, data.task(measured=False).chance),
        None if frozen is None else doubts.frozen_at_once(frozen(searched.state)),
        discretize.collapse_warning(report, genotype, _layers(searched.space)),
    )
    return tuple(text for text in every if text is not None)


def _layers(space: SearchSpace) -> dict[str, int]:
    """How many cells each table that chooses decides; nothing where cells share none."""
    decisions = space.decisions.items()
    if not isinstance(space, Layered):
        return {}
    return {name: space.layers[name] for name, decision in decisions if decision.chooses}


def _select(
    searched: Searched, data: Dataset, augment: Augment, files: Workdir, progress: bool
) -> tuple[Genotype, list[dict[str, Any]] | None, bool]:
    """The architecture, the record of its selection, and whether that measured anything.

    All is taken from the directory if it is there already.

    Raises:
      dnas.runtime.loop.Stopped: SIGTERM or Ctrl-C came; what was measured so far is kept.
    """
    select = searched.preset.made("selection", space=searched.space)
    if select is None:
        return searched.space.discretize(searched.at_end("mix")), None, False
    found = _selected(searched.space, files)
    if found is not None:
        return found
    with Interrupts() as interrupts:
        journal = Journal(files, interrupts)
        task = data.task(augment)
        genotype, record = select(trained(searched, task, journal, progress))
        searched.space.validate(genotype)
        measured = journal.measurements > 0
        choices = {part: genotype[part] for part in genotype.parts()}
        facts = {"choices": choices, "record": record, "measured": measured}
        files.write_sealed(_SELECTION, facts)
        journal.check()
    return genotype, record, measured


def _selected(
    space: SearchSpace, files: Workdir
) -> tuple[Genotype, list[dict[str, Any]], bool] | None:
    """What an earlier call of `_select` found; None where there is nothing to rely on."""
    try:
        stored = files.read_sealed(_SELECTION)
    except DamagedError as error:
        warnings.warn(f"{error}; it is selected again", stacklevel=2)
        return None
    if stored is None:
        return None
    genotype = Genotype.create(space.name, stored["choices"])
    space.validate(genotype)
    return genotype, stored["record"], bool(stored.get("measured"))


def _draw(space: SearchSpace, result: SearchResult, files: Workdir) -> None:
    """Draws cell and mixing weights into the directory; what fails is only a warning."""
    if files.path is None:
        return
    history = tables(result.trajectory, "mix")
    try:
        from dnas import viz
        from dnas.choices import choices_of, one_hot

        masks = one_hot(space, result.genotype)
        selected = {choice.table: masks[choice.table] for choice in choices_of(space)}
        figures = {
            "cell.png": viz.draw_genotype(result.genotype),
            "mix.png": viz.plot_alphas(history, space.decisions, selected),
        }
        for name, figure in figures.items():
            picture = io.BytesIO()
            viz.save(figure, picture)
            files.write_bytes(name, picture.getvalue())
    except Exception as error:
        warnings.warn(f"no pictures: {error!r}", stacklevel=2)
