"""Rows of a table: mean and standard deviation over the folds and seeds of each row and split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from evenseg.benchmark.comparable import unlike
from evenseg.benchmark.difference import Difference, Units, differences
from evenseg.benchmark.finished import Finished


class Figure(NamedTuple):
    """Mean of a figure over runs; std is None for a single one."""

    mean: float
    std: float | None


class Line(NamedTuple):
    """One row of the table on one split.

    figures: by name: miou, tail_miou, head_miou, the classes under ``per_class``. networks: mIoU of last and best,
    student and teacher. versus: differences to the reference row, with the number of pairs; why_not: the reason
    where there are none.
    """

    row: str
    split: str
    runs: int
    expected: int
    figures: dict[str, Figure]
    per_class: dict[str, Figure]
    networks: dict[str, Figure]
    seconds_per_step: Figure | None
    peak_memory: Figure | None
    versus: list[Difference]
    why_not: str


def summarize_plan(
    finished: Sequence[Finished],
    rows: Sequence[str],
    splits: Sequence[str],
    reference: str,
    expected: int,
    units: Units,
) -> list[Line]:
    """The table of a plan from its finished runs; a row that has none is left out."""
    lines = []
    for split in splits:
        of_row = {row: [run for run in finished if run.spec.row == row and run.spec.split == split] for row in rows}
        for row, runs in of_row.items():
            if not runs:
                continue
            versus, why_not = ([], "") if row == reference else _versus(runs, of_row.get(reference, []), units)
            lines.append(
                Line(
                    row,
                    split,
                    len(runs),
                    expected,
                    {
                        name: figure
                        for name in ("miou", "tail_miou", "head_miou")
                        if (figure := _over(runs, _top(name)))
                    },
                    {name: figure for name in _classes(runs) if (figure := _over(runs, _of_class(name)))},
                    {name: figure for name in _networks(runs) if (figure := _over(runs, _of_network(name)))},
                    _figure(run.timing.get("seconds_per_step") for run in runs),
                    _figure(run.timing.get("peak_memory_bytes") for run in runs),
                    versus,
                    why_not,
                )
            )
    return lines


def _versus(runs: list[Finished], reference: list[Finished], units: Units) -> tuple[list[Difference], str]:
    """Differences over the folds and seeds that both rows have finished."""
    theirs = {(run.spec.fold, run.spec.seed): run for run in reference}
    pairs = [(run, theirs[key]) for run in runs if (key := (run.spec.fold, run.spec.seed)) in theirs]
    if not pairs:
        return [], "the reference has no finished run of these folds"
    for ours, other in pairs:
        lists = [run.environment["split_sha256"] for run in (ours, other)]
        reason = unlike(ours.result, other.result, *lists)
        if reason:
            return [], f"not comparable: {reason}"
    return differences([a for a, _ in pairs], [b for _, b in pairs], units), ""


def _over(runs: Sequence[Finished], value: Callable[[dict[str, Any]], float | None]) -> Figure | None:
    return _figure(value(run.result) for run in runs)


def _figure(numbers: Iterable[float | None]) -> Figure | None:
    values = [number for number in numbers if number is not None]
    return Figure(fmean(values), stdev(values) if len(values) > 1 else None) if values else None


def _top(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result.get(name)


def _of_class(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result["per_class_iou"].get(name)


def _of_network(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda result: result["evaluated"].get(name, {}).get("miou")


def _classes(runs: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.result["per_class_iou"]))


def _networks(runs: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.result["evaluated"]))
