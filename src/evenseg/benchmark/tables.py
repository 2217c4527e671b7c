"""The table of a plan as Markdown, CSV and LaTeX. Figures are in percent, spread is the standard deviation."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from evenseg.benchmark.beside import PublishedLine
from evenseg.benchmark.difference import Difference
from evenseg.benchmark.summary import Figure, Line
from evenseg.metrics.intervals import Interval

_TITLES = {"miou": "mIoU", "tail_miou": "tail", "head_miou": "head"}
_NONE = "-"

Table = tuple[list[str], list[list[str]]]


def main_table(lines: Sequence[Line], published: Sequence[PublishedLine] = ()) -> Table:
    """Headline figures of every row and split, and what they cost; published numbers of a split come after ours, and
    where there are any, the last column tells which they are."""
    columns = ["row", "split", "runs", *_TITLES.values(), "s/step", "memory, GiB"]
    rows = []
    for split in dict.fromkeys(line.split for line in lines):
        rows += [_ours(line) for line in lines if line.split == split]
        rows += [_theirs(line, len(columns)) for line in published if line.split == split]
    if not published:
        return columns, rows
    return [*columns, "source"], [row if len(row) > len(columns) else [*row, "here"] for row in rows]


def _ours(line: Line) -> list[str]:
    return [
        line.row,
        line.split,
        str(line.runs) if line.runs == line.expected else f"{line.runs} of {line.expected}",
        *(percent(line.figures.get(name)) for name in _TITLES),
        plain(line.seconds_per_step, 1.0, 3),
        plain(line.peak_memory, 2.0**-30, 2),
    ]


def _theirs(line: PublishedLine, columns: int) -> list[str]:
    """mIoU alone, as it is printed: papers tell no other of these figures in the same way."""
    miou = plain(line.miou, 100.0, 2)
    cells = [line.method, line.split, _NONE, miou.removesuffix("0") if line.miou.std is None else miou]
    return [*cells, *[_NONE] * (columns - len(cells)), line.source]


def class_table(lines: Sequence[Line]) -> Table:
    """IoU of every class."""
    names = list(dict.fromkeys(name for line in lines for name in line.per_class))
    return ["row", "split", *names], [
        [line.row, line.split, *(percent(line.per_class.get(name)) for name in names)] for line in lines
    ]


def network_table(lines: Sequence[Line]) -> Table:
    """mIoU of the last and the best checkpoint, student and teacher."""
    names = list(dict.fromkeys(name for line in lines for name in line.networks))
    return ["row", "split", *(name.replace("_", " ") for name in names)], [
        [line.row, line.split, *(percent(line.networks.get(name)) for name in names)] for line in lines
    ]


def difference_table(lines: Sequence[Line], reference: str) -> Table:
    """Paired differences to the reference row, with 95 % intervals over images and over folds."""
    columns = ["row", "split", "figure", f"minus {reference}", "over images", "over folds"]
    rows = []
    for line in lines:
        if line.why_not:
            rows.append([line.row, line.split, "", line.why_not, "", ""])
        rows += [[line.row, line.split, *difference_cells(difference)] for difference in line.versus]
    return columns, rows


def difference_cells(difference: Difference) -> list[str]:
    """Figure, difference in points, and its two intervals."""
    return [
        _TITLES[difference.figure],
        f"{100 * difference.mean:+.2f}",
        _interval(difference.over_images),
        _interval(difference.over_folds),
    ]


def markdown(table: Table) -> str:
    """A pipe table."""
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def comma_separated(table: Table) -> str:
    """CSV with a header."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([table[0], *table[1]])
    return text.getvalue()


def latex(table: Table) -> str:
    """A ``tabular`` with rules of booktabs."""
    columns, rows = table
    body = [_latex_line(columns), "\\midrule\n", *map(_latex_line, rows)]
    layout = "l" * min(2, len(columns)) + "r" * max(0, len(columns) - 2)
    return f"\\begin{{tabular}}{{{layout}}}\n\\toprule\n{''.join(body)}\\bottomrule\n\\end{{tabular}}\n"


def percent(figure: Figure | None) -> str:
    """``38.2 ± 0.5`` of fractions; no spread for a single run."""
    return plain(figure, 100.0, 1)


def plain(figure: Figure | None, factor: float, digits: int) -> str:
    """Mean and spread times a factor."""
    if figure is None:
        return _NONE
    mean = f"{factor * figure.mean:.{digits}f}"
    return mean if figure.std is None else f"{mean} ± {factor * figure.std:.{digits}f}"


def _interval(interval: Interval | None) -> str:
    return _NONE if interval is None else f"[{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_text, cells)) + " \\\\\n"


def _latex_text(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
