"""A plan from start to table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from evenseg.benchmark import tables
from evenseg.benchmark.beside import PublishedLine, beside
from evenseg.benchmark.difference import Units
from evenseg.benchmark.finished import Finished, State, keep, read_finished, state_of
from evenseg.benchmark.plan import Plan, RunSpec
from evenseg.benchmark.pool import Outcome, Pool
from evenseg.benchmark.summary import Line, summarize_plan
from evenseg.benchmark.watch import Watch
from evenseg.data.build_folder import data_root
from evenseg.errors import InputError
from evenseg.training.checkpoint import write_text


class Standing(NamedTuple):
    """A run of a plan before it is trained: its state, and the difference where it is ``changed``."""

    spec: RunSpec
    state: State
    change: str


class Summary(NamedTuple):
    """What a plan has found. published: numbers from papers that may stand beside; notes: why others may not."""

    lines: list[Line]
    published: list[PublishedLine]
    notes: list[str]


class PlanResult(NamedTuple):
    """The table, and what went wrong. stopped: the signal that stopped the plan, None if it came to its end."""

    summary: Summary
    failed: list[Outcome]
    changed: list[Standing]
    stopped: int | None


def standings(plan: Plan, output: Path, kept: Path | None) -> list[Standing]:
    """The state of every run of a plan."""
    return [Standing(spec, *state_of(spec, output, kept)) for spec in plan.runs]


def run_plan(plan: Plan, output: Path, *, kept: Path | None, jobs: int | None, keep_results: bool) -> PlanResult:
    """Trains what is not finished, one run per GPU or ``jobs`` on the CPU, and writes the tables.

    Args:
        plan: see ``load_plan``.
        output: folder of run folders, logs and tables.
        kept: folder of kept results, which count as finished.
        jobs: runs at a time; default: one for each GPU, one on a CPU.
        keep_results: copy what finished here to ``kept``.

    Raises:
        InputError: the data of all runs that are to be trained are missing.
    """
    gpus = [str(index) for index in range(torch.cuda.device_count())]
    jobs = jobs or len(gpus) or 1
    before = standings(plan, output, kept)
    specs = [standing.spec for standing in before if standing.state in ("begun", "new")]
    _refuse_absent_data(plan.path, specs)
    pool = Pool(specs, output, jobs=jobs, gpus=gpus)
    settled: dict[str, str] = {
        standing.spec.name: standing.state for standing in before if standing.state not in ("begun", "new")
    }
    with Watch(output, plan.runs, settled, jobs=jobs) as watch:
        outcomes = pool.run(watch)
    if keep_results:
        if kept is None:
            raise InputError("--keep: name a folder for the results with --results")
        for standing in standings(plan, output, kept):
            if standing.state == "finished":
                keep(standing.spec, output, kept)
    summary = summarize(plan, output, kept)
    write_tables(plan, summary, output)
    failed = [outcome for outcome in outcomes if outcome.code and pool.stopped_by is None]
    return PlanResult(summary, failed, [s for s in before if s.state == "changed"], pool.stopped_by)


def _refuse_absent_data(path: Path, specs: Sequence[RunSpec]) -> None:
    """One line in place of a failure for each run. Where some have their data, those are trained and the rest fail."""
    faults = []
    for spec in specs:
        if spec.config.data.dataset != "folder":
            return
        try:
            data_root(spec.config.data)
        except InputError as error:
            faults.append(f"{path}: {spec.name}: {error}")
        else:
            return
    if faults:
        more = "data.root=FOLDER behind the plan holds for all its runs, and --tables needs no data"
        raise InputError(f"{faults[0]} ({more})")


def summarize(plan: Plan, output: Path, kept: Path | None) -> Summary:
    """The table of all runs that are finished, here or among the kept results."""
    done: list[Finished] = []
    for standing in standings(plan, output, kept):
        if standing.state == "finished":
            done.append(read_finished(standing.spec, output / standing.spec.name))
        elif standing.state == "kept" and kept is not None:
            done.append(read_finished(standing.spec, kept / standing.spec.name))
    file = plan.file
    units = Units(file.sequence, file.block)
    expected = len(file.folds) * len(file.seeds)
    lines = summarize_plan(done, list(file.rows), list(file.splits), plan.reference, expected, units)
    return Summary(lines, *beside(file.published, done, file.splits))


def write_tables(plan: Plan, summary: Summary, output: Path) -> None:
    """``table.md`` with all tables; each as CSV and LaTeX too."""
    lines = summary.lines
    named = {
        "table": tables.main_table(lines, summary.published),
        "differences": tables.difference_table(lines, plan.reference),
        "classes": tables.class_table(lines),
        "networks": tables.network_table(lines),
    }
    notes = "".join(f"\n{note}\n" for note in summary.notes)
    write_text(output / "table.md", "\n".join(tables.markdown(table) for table in named.values()) + notes)
    for name, table in named.items():
        write_text(output / f"{name}.csv", tables.comma_separated(table))
        write_text(output / f"{name}.tex", tables.latex(table))
