"""``evenseg compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evenseg.cli.units import Block, Sequence, units_of


def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    other: Annotated[Path, typer.Argument(metavar="RUN", help="The one it is compared with.")],
    sequence: Sequence = None,
    block: Block = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Runs of unlike splits or protocols too: with the labels of both, no intervals."),
    ] = False,
) -> None:
    """Compare two runs on the images both were scored on, with 95 % intervals over images.

    Runs of unlike splits or protocols are refused with the reason. Neighbouring frames of a video are no independent
    evidence: name their sequence, or the interval is too narrow.

    \b
    evenseg compare runs/cutmix_seg runs/supervised
    evenseg compare runs/u2pl_list runs/cps_list --force
    evenseg compare runs/a runs/b --sequence '([^/]+)_\\d+' --block 10
    """
    from evenseg.benchmark import tables
    from evenseg.benchmark.compare import compare_runs, lists_of
    from evenseg.benchmark.labels import labels
    from evenseg.cli.tables import percent, print_table

    found = compare_runs(run, other, units_of(sequence, block), force=force)
    ours, theirs = found.ours.result, found.theirs.result
    if found.reason is None:
        print(f"{ours['headline']} of {run} and {theirs['headline']} of {other}, {ours['split']}, {ours['protocol']}\n")
    else:
        print(f"NOT COMPARABLE: {found.reason}")
        for folder, finished in ((run, found.ours), (other, found.theirs)):
            print(f"{finished.result['headline']} of {folder}: {lists_of(finished)}")
        print()
    rows = []
    for difference in found.differences:
        title, mean, over_images, _ = tables.difference_cells(difference)
        figure = difference.figure
        rows.append([title, percent(ours[figure]), percent(theirs[figure]), mean, over_images])
    for name, value in theirs["per_class_iou"].items():
        before, after = value, ours["per_class_iou"].get(name)
        change = "-" if before is None or after is None else f"{100 * (after - before):+.2f}"
        rows.append([name, percent(after), percent(before), change, ""])
    names = labels([run.absolute(), other.absolute()])
    print_table(["IoU, %", *names, "difference", "over images"], rows, numbers=4)
    if found.reason is None and any(difference.over_images is None for difference in found.differences):
        print("\nNo interval: it takes images.npz of both runs and ten images or sequences.")
