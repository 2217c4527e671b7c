"""The options that say which images are independent evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evenseg.benchmark.difference import Units

Sequence = Annotated[
    str | None,
    typer.Option("--sequence", metavar="PATTERN", help="Its group names the video an image is from: '(seq\\d+)_'."),
]
Block = Annotated[int | None, typer.Option("--block", min=1, help="So many neighbouring frames count as one image.")]


def units_of(sequence: str | None, block: int | None) -> Units:
    """What counts as one image in the intervals; InputError where the pattern is none."""
    from evenseg.benchmark.difference import Units
    from evenseg.benchmark.plan import check_sequence

    if sequence is not None:
        check_sequence("--sequence", sequence)
    return Units(sequence, block)
