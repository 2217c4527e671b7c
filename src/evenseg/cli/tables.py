"""Tables on standard output: as wide as the terminal, and never cut where there is none."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_HEADLINES = {
    "miou": "mIoU",
    "tail_miou": "tail mIoU",
    "head_miou": "head mIoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean class accuracy",
}


def print_table(columns: list[str], rows: list[list[str]], *, numbers: int = 0) -> None:
    """Print a table whose last ``numbers`` columns are right-aligned."""
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for index, column in enumerate(columns):
        aligned_right = index >= len(columns) - numbers
        table.add_column(column, justify="right" if aligned_right else "left", no_wrap=aligned_right or index == 0)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 240, markup=False, highlight=False).print(table)


def print_scores(result: dict[str, Any]) -> None:
    """Print a result of ``evaluate_run``: the IoU and accuracy of every class in percent, then the means."""
    print(f"{result['network']} on {result['images']} images of {result['split']}, {result['protocol']}\n")
    accuracy = result["per_class_accuracy"]
    rows = [
        [name, "tail" if name in result["tail_classes"] else "", percent(iou), percent(accuracy[name])]
        for name, iou in result["per_class_iou"].items()
    ]
    print_table(["class", "", "IoU %", "accuracy %"], rows, numbers=2)
    print()
    for key, title in _HEADLINES.items():
        print(f"{title:<24}{percent(result[key]):>6} %")


def percent(value: float | None) -> str:
    """A fraction in percent; a dash where nothing of the class occurs."""
    return "-" if value is None else f"{100 * value:.2f}"
