"""``evenseg benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evenseg.benchmark.plan import Plan
    from evenseg.benchmark.run import Summary


def benchmark(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A YAML file: base config, rows, splits, folds, seeds.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values for every run, such as data.root.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Default runs/PLAN.")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at a time; default one per GPU, one on a CPU.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FOLDER", help="Kept results; default results/PLAN beside the plan."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Copy the results of finished runs to the kept ones.")] = False,
    tables_only: Annotated[
        bool, typer.Option("--tables", help="Print the tables of what is finished, here or kept; train nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs with an estimate of time and disk, and train nothing.")
    ] = False,
) -> int:
    """Train a plan of runs and tabulate them: mean and spread over folds, paired differences with intervals.

    Finished runs are skipped, stopped ones resumed, a failed one does not stop the others; the same command goes on
    after Ctrl-C. Writes table.md, and each table as CSV and LaTeX.

    \b
    evenseg benchmark plan.yaml --dry-run
    evenseg benchmark plan.yaml --output runs/plan --jobs 2
    evenseg benchmark plan.yaml data.root=/elsewhere --keep
    evenseg benchmark benchmarks/camvid.yaml --tables
    """
    from evenseg.benchmark.plan import load_plan

    loaded = load_plan(plan, overrides or [])
    output = output or Path("runs") / plan.stem
    kept = results or plan.parent / "results" / plan.stem
    if dry_run:
        _print_estimate(loaded, output, kept, jobs)
        return 0
    from evenseg.benchmark.run import run_plan, summarize

    if tables_only:
        _print_tables(summarize(loaded, output, kept), loaded.reference)
        return 0
    result = run_plan(loaded, output, kept=kept, jobs=jobs, keep_results=keep)
    if result.summary.lines:
        _print_tables(result.summary, loaded.reference)
        print(f"\nall tables: {output / 'table.md'}")
    for outcome in result.failed:
        print(f"failed: {outcome.spec.name}: {outcome.message}")
    for standing in result.changed:
        print(
            f"left alone: {standing.spec.name}: its folder holds a run of another configuration ({standing.change}); "
            "rename the row, or remove the folder"
        )
    if result.stopped is not None:
        print("stopped; the same command goes on")
        return 128 + result.stopped
    return 1 if result.failed or result.changed else 0


def _print_tables(summary: Summary, reference: str) -> None:
    from evenseg.benchmark import tables
    from evenseg.cli.tables import print_table

    lines = summary.lines
    if not lines:
        print("no run of this plan is finished")
    main = tables.main_table(lines, summary.published)
    for table in (main, tables.class_table(lines), tables.difference_table(lines, reference)):
        if table[1]:
            print()
            print_table(*table, numbers=len(table[0]) - 2)
    for note in summary.notes:
        print(f"\n{note}")


def _print_estimate(plan: Plan, output: Path, kept: Path, jobs: int | None) -> None:
    from evenseg.benchmark.estimate import estimate
    from evenseg.cli.progress import progress_bar
    from evenseg.cli.tables import print_table
    from evenseg.training.display import duration

    with progress_bar("measure") as progress:
        found = estimate(plan, output, kept, jobs=jobs, progress=progress)
    rows = [
        [run.name, run.state, *((str(run.steps), duration(run.seconds), _gib(run.disk)) if run.steps else ("", "", ""))]
        for run in found.runs
    ]
    disk = sum(run.disk for run in found.runs)
    rows.append(
        [f"in all, {found.jobs} at a time", "", "", duration(found.seconds), f"{_gib(disk)} of {_gib(found.free)}"]
    )
    print_table(["run", "state", "steps", "training", "disk, GiB"], rows, numbers=3)
    print("\nTraining steps alone; loading that cannot keep up, validation, and labeling by recipes come on top.")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
