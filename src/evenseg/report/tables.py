"""Tables of a report as plain data, which the page draws and sorts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evenseg.metrics.intervals import Interval


class Cell(NamedTuple):
    """text: as shown. sort: what the column is sorted by. shade: 0 to 1, how strong the background is."""

    text: str
    sort: float | str
    shade: float = 0.0


class Table(NamedTuple):
    """caption: what it shows. head: column titles. rows: cells, the first of which names the row. numbers: how many
    columns, counted from the right, hold numbers. sortable: whether its columns can be sorted by."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    numbers: int
    sortable: bool = True


def name(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, text.lower())


def percent(value: float | None, digits: int = 1, *, shade: float = 0.0) -> Cell:
    """A share in percent; a dash where there is none, which is sorted last."""
    return Cell("-", -1e9) if value is None else Cell(f"{100 * value:.{digits}f}", value, shade)


def with_interval(value: float | None, interval: Interval | None) -> Cell:
    """A figure in percent with its 95 % interval where there is one."""
    if value is None or interval is None:
        return percent(value)
    return Cell(f"{100 * value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})", value)


def points(value: float | None, interval: Interval | None) -> Cell:
    """A difference in points, with its interval where there is one."""
    if value is None:
        return Cell("-", -1e9)
    ends = f" ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})" if interval is not None else ""
    return Cell(f"{100 * value:+.1f}{ends}", value)


def number(value: float | None, text: str) -> Cell:
    """Any other number, formatted by ``text``, as in ``{:.2f}``."""
    return Cell("-", -1e9) if value is None else Cell(text.format(value), value)


def unsorted(caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: int) -> Table:
    """A table whose order means something."""
    return Table(caption, list(head), [list(row) for row in rows], numbers, sortable=False)
