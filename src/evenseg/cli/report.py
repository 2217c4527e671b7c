"""``evenseg report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evenseg.cli.units import Block, Sequence, units_of


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders; the others are compared with the first.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page; replaced if it exists.")
    ] = Path("report.html"),
    sequence: Sequence = None,
    block: Block = None,
) -> None:
    """Show one run or several on a page of their own: scores, curves, pseudo-labels, pictures.

    One HTML file that needs nothing else: send it, put it on any server, open it on a phone. Runs that are still
    training are shown as far as they are.

    \b
    evenseg report runs/first
    evenseg report runs/supervised runs/cutmix_seg --output comparison.html
    evenseg report runs/camvid/*/*fold0* --sequence '([^/]+)_\\d+' --block 10
    """
    from evenseg.cli.progress import progress_bar
    from evenseg.errors import InputError
    from evenseg.report.make import make_report

    units = units_of(sequence, block)
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output: {output} is no HTML file; let its name end in .html")
    if output.is_dir():
        raise InputError(f"--output: {output} is a folder; name a file in it, such as {output / 'report.html'}")
    with progress_bar("report") as progress:
        size = make_report(runs, output, units, progress)
    print(f"{output}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {size / 1e6:.1f} MB")
