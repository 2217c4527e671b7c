"""Charts as SVG text that takes its ink from the page, so that it is readable on light and on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # becomes the colour of the page's text
SERIES = ("#0a84c6", "#d55e00", "#009e73", "#cc79a7", "#c08a00", "#7b68c8", "#b0413e", "#808080")  # on light and dark
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "evenseg",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.transparent": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
_numbers = count()


class Chart(NamedTuple):
    """title: a heading. svg: the drawing. description: what a reader who cannot see it is told. wide: as two."""

    title: str
    svg: Markup
    description: str
    wide: bool = False


class Series(NamedTuple):
    """One line of a chart. color: index of the run. dashed: the second of two lines of a run."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    color: int
    dashed: bool = False


def line_chart(title: str, y_label: str, series: Sequence[Series], *, x_label: str = "step") -> Chart | None:
    """Lines over steps; None where no line has a value."""
    drawn = [line for line in series if any(y is not None for y in line.y)]
    if not drawn:
        return None
    with _axes() as (figure, axes):
        for line in drawn:
            y = [np.nan if value is None else value for value in line.y]
            style = "--" if line.dashed else "-"
            mark = "o" if len(y) == 1 else None
            axes.plot(line.x, y, style, color=color(line.color), label=line.label, marker=mark, markersize=3)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(drawn) > 1:
            axes.legend(fontsize=8)
        ends = "; ".join(f"{line.label} ends at {_number(_last(line.y))}" for line in drawn)
        return Chart(title, _svg(figure), f"{y_label} over {x_label}: {ends}")


def size_chart(title: str, edges: Sequence[float], series: Sequence[Series]) -> Chart | None:
    """Lines over object size as a share of the image, in percent on a log axis; None where no line has a value."""
    drawn = [line for line in series if any(y is not None for y in line.y)]
    if not drawn:
        return None
    with _axes() as (figure, axes):
        for line in drawn:
            y = [np.nan if value is None else 100 * value for value in line.y]
            style = "--" if line.dashed else "-"
            axes.plot(100 * np.asarray(edges), y, style, color=color(line.color), label=line.label, marker="o", ms=3)
        axes.set_xscale("log")
        axes.set_xlabel("object size up to, % of the image")
        axes.set_ylabel("pixels found, %")
        axes.legend(fontsize=8)
        smallest = "; ".join(f"{line.label} {_number(_first(line.y), 100)} %" for line in drawn)
        return Chart(title, _svg(figure), f"Share of the pixels found by object size, of the smallest: {smallest}")


def class_chart(
    title: str, y_label: str, share: dict[str, float], values: Sequence[tuple[str, int, dict[str, float | None]]]
) -> Chart:
    """A figure of every class, in percent, over its share of the labeled pixels (log axis).

    ``values``: of some runs, each with its label, the index of its colour, and the figure by class name.
    """
    with _axes(width=6.4) as (figure, axes):
        for label, index, of_class in values:
            points = [(share[name], y) for name, y in of_class.items() if y is not None and share[name] > 0]
            x, y = (100 * np.array(points).reshape(-1, 2)).T
            axes.plot(x, y, "o", color=color(index), label=label, markersize=4)
        if y_label.startswith("gain"):
            axes.axhline(0, color=INK, linewidth=0.8)
        for name, value in values[0][2].items():
            if value is not None and share[name] > 0:
                point = 100 * share[name], 100 * value
                axes.annotate(name, point, xytext=(3, 3), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel("share of the labeled pixels, %")
        axes.set_ylabel(y_label)
        if len(values) > 1 or y_label.startswith("gain"):
            axes.legend(fontsize=8)
        description = f"{y_label} of every class over its share of the labeled pixels; see the table"
        return Chart(title, _svg(figure), description, wide=True)


def heat_chart(
    title: str, rows: Sequence[str], steps: Sequence[int], values: np.ndarray, *, legend: str, limit: float
) -> Chart:
    """(rows, steps) values, 0 in the middle of a diverging scale from ``-limit`` to ``limit``."""
    with _axes(width=6.4, height=0.6 + 0.19 * max(len(rows), 6)) as (figure, axes):
        axes.grid(False)
        extent = (steps[0], max(steps[-1], steps[0] + 1), len(rows) - 0.5, -0.5)
        drawn = axes.imshow(
            values, aspect="auto", extent=extent, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.set_xlabel("step")
        bar = figure.colorbar(drawn, ax=axes, pad=0.02)
        bar.set_label(legend, fontsize=8)
        bar.outline.set_visible(False)
        return Chart(title, _svg(figure), f"{legend}, a row for each class, over steps", wide=True)


def color(index: int) -> str:
    """Of the index-th run."""
    return SERIES[index % len(SERIES)]


@contextmanager
def _axes(width: float = 4.6, height: float = 2.9) -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # of more kinds of values than its type tells
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure) -> Markup:
    file = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", metadata=metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = f"c{next(_numbers)}-"  # ids of several drawings in one page must differ
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}", text)
    return Markup(text.replace("<svg", '<svg aria-hidden="true"', 1))


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _first(values: Sequence[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _number(value: float | None, factor: float = 1) -> str:
    return "unknown" if value is None else f"{factor * value:.3g}"
