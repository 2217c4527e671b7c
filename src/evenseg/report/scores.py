"""What the finished runs reached: headline, differences, classes, confusions, objects by size."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch

from evenseg.benchmark.compare import compare_finished
from evenseg.benchmark.difference import Units
from evenseg.benchmark.finished import Finished
from evenseg.benchmark.plan import RunSpec
from evenseg.metrics.image_counts import class_iou, mean_iou
from evenseg.metrics.intervals import Interval, bootstrap_intervals
from evenseg.metrics.object_size import EDGES, GROUPS, size_groups
from evenseg.report.charts import Chart, Series, class_chart, size_chart
from evenseg.report.runs import Run
from evenseg.report.tables import Cell, Table, name, number, percent, points, unsorted, with_interval

FIGURES = {"miou": "mIoU", "tail_miou": "tail mIoU", "head_miou": "head mIoU"}
LARGEST_MATRIX = 32  # classes: a larger confusion matrix is unreadable, the worst confusions are listed either way
WORST = 15  # confusions in that list

Intervals = dict[str, Interval | None]


def intervals_of(run: Run, units: Units) -> Intervals:
    """95 % intervals over images, by figure and by class name; empty where there are too few images."""
    if run.images is None or run.result is None:
        return {}
    tail = [run.names.index(each) for each in run.result["tail_classes"]]
    head = [index for index in range(len(run.names)) if index not in tail]

    def statistics(counts: torch.Tensor) -> torch.Tensor:
        means = [mean_iou(counts, classes) for classes in (None, tail, head)]
        return torch.cat([torch.stack(means, dim=-1), class_iou(counts)], dim=-1)

    found = bootstrap_intervals(
        run.images.counts,
        statistics,
        generator=torch.Generator().manual_seed(0),
        sequence=units.of(run.images.names),
    )
    return dict(zip([*FIGURES, *run.names], found, strict=True)) if found else {}


def headline_table(runs: Sequence[Run], intervals: Sequence[Intervals]) -> Table:
    """One row a run."""
    rows = []
    for run, of_run in zip(runs, intervals, strict=True):
        result = run.result or {}
        seconds, memory = run.timing.get("seconds_per_step"), run.timing.get("peak_memory_bytes")
        rows.append(
            [
                name(run.label),
                name(result.get("headline") or "still training"),
                *(with_interval(result.get(key), of_run.get(key)) for key in FIGURES),
                percent(result.get("pixel_accuracy")),
                number(seconds, "{:.2f}"),
                number(memory and memory / 2**30, "{:.1f}"),
            ]
        )
    head = ["run", "network", *FIGURES.values(), "pixel accuracy", "seconds a step", "memory, GiB"]
    return Table("Headline figures in percent, with 95 % intervals over images", head, rows, numbers=6)


def network_table(runs: Sequence[Run]) -> Table:
    """Last and best checkpoint, student and teacher."""
    rows = []
    for run in runs:
        for network, scores in (run.result or {}).get("evaluated", {}).items():
            rows.append([name(run.label), name(network), *(percent(scores[key]) for key in FIGURES)])
    return Table("All networks that were scored, %", ["run", "network", *FIGURES.values()], rows, numbers=3)


def difference_table(runs: Sequence[Run], units: Units) -> Table | None:
    """Every run against the first, where that is fair; else the reason. None for a single scored run."""
    scored = [run for run in runs if run.scored]
    if len(scored) < 2:
        return None
    first, *others = scored
    rows = []
    for run in others:
        found, reason = compare_finished(_finished(run), _finished(first), units)
        by_figure = {difference.figure: difference for difference in found}
        cells = [
            points(by_figure[key].mean, by_figure[key].over_images) if key in by_figure else percent(None)
            for key in FIGURES
        ]
        rows.append([name(run.label), *cells, name(f"not compared: {reason}" if reason else "")])
    caption = f"Points above {first.label}, with 95 % intervals over images"
    return Table(caption, ["run", *FIGURES.values(), ""], rows, numbers=4)


def class_table(runs: Sequence[Run], intervals: Sequence[Intervals]) -> Table:
    """One row a class, tail classes marked."""
    share = _shares(runs)
    tail = {each for run in runs for each in run.facts.tail.names}
    rows = []
    for each, part in share.items():
        cells = [
            with_interval((run.result or {"per_class_iou": {}})["per_class_iou"].get(each), of_run.get(each))
            for run, of_run in zip(runs, intervals, strict=True)
            if run.scored
        ]
        rows.append([name(each), name("tail" if each in tail else "head"), percent(part, 2), *cells])
    head = ["class", "group", "labeled pixels, %", *(run.label for run in runs if run.scored)]
    return Table("IoU of every class in percent, with 95 % intervals over images", head, rows, numbers=len(head) - 2)


def frequency_chart(runs: Sequence[Run]) -> Chart | None:
    """IoU of one run, or the gain of every run over the first, against class frequency."""
    scored = [
        (run.label, index, run.result["per_class_iou"]) for index, run in enumerate(runs) if run.result and run.scored
    ]
    if not scored:
        return None
    (first, _, base), *others = scored
    if not others:
        return class_chart("IoU against class frequency", "IoU, %", _shares(runs), scored)
    gains = [
        (label, index, {each: _minus(value, base.get(each)) for each, value in of_class.items()})
        for label, index, of_class in others
    ]
    return class_chart(f"Gain over {first} against class frequency", "gain in IoU, points", _shares(runs), gains)


def group_table(runs: Sequence[Run]) -> Table | None:
    """Mean IoU of the four groups of DARS: frequent or rare, large or small."""
    found = [run for run in runs if run.images is not None and run.scored]
    if not found:
        return None
    rows = []
    for index, group in enumerate(GROUPS):
        cells, members = [], []
        for run in found:
            groups = size_groups(run.images.counts) if run.images is not None else []
            members = [each for each, g in zip(run.names, groups, strict=True) if g == index]
            iou = (run.result or {})["per_class_iou"]
            values = [iou[each] for each in members if iou[each] is not None]
            cells.append(percent(fmean(values) if values else None))
        rows.append([name(group), name(", ".join(members) or "none"), *cells])
    caption = (
        "Mean IoU in percent of classes by how often and how large they are in the scored images: frequent in more "
        "than half of them, large above a tenth of the image (DARS, Section 4.4)"
    )
    return unsorted(caption, ["group", "classes", *(run.label for run in found)], rows, numbers=len(found))


def object_chart(runs: Sequence[Run]) -> Chart | None:
    """Share of the pixels found by the size of their object, over all classes and over the tail."""
    series = []
    for index, run in enumerate(runs):
        if run.objects is None:
            continue
        tail = [run.names.index(each) for each in run.facts.tail.names]
        for label, classes, dashed in ((run.label, slice(None), False), (f"{run.label}, tail", tail, True)):
            pixels, right = run.objects.pixels[classes].sum(dim=0), run.objects.right[classes].sum(dim=0)
            y = [int(r) / int(p) if p else None for r, p in zip(right, pixels, strict=True)]
            series.append(Series(label, EDGES, y, index, dashed))
    return size_chart("Pixels found by object size", EDGES, series)


def confusion_tables(run: Run) -> list[Table]:
    """The worst confusions, and the whole matrix where it is readable; shares of the true pixels of each class."""
    if run.confusion is None:
        return []
    total = run.confusion.sum(dim=1, keepdim=True)
    share = (run.confusion.double() / total.clamp(min=1)).tolist()
    pairs = [
        (share[i][j], run.names[i], run.names[j])
        for i in range(len(run.names))
        for j in range(len(run.names))
        if i != j and share[i][j] > 0
    ]
    worst = [[name(a), name(b), percent(part)] for part, a, b in sorted(pairs, reverse=True)[:WORST]]
    caption = f"{run.label}: the worst confusions"
    tables = [Table(caption, ["true class", "taken for", "% of its pixels"], worst, numbers=1)]
    if len(run.names) <= LARGEST_MATRIX:
        rows = []
        for each, of_class, pixels in zip(run.names, share, total, strict=True):
            cells = [_shaded(part, occurs=bool(pixels)) for part in of_class]
            rows.append([name(each), *cells])
        caption = f"{run.label}: confusion matrix, % of the pixels of the true class (rows) by predicted class"
        tables.append(unsorted(caption, ["true class", *run.names], rows, numbers=len(run.names)))
    return tables


def _shaded(part: float, *, occurs: bool) -> Cell:
    if not occurs:
        return percent(None)
    return percent(part, 0, shade=part) if part >= 0.005 else Cell("", part)


def _shares(runs: Sequence[Run]) -> dict[str, float]:
    """Share of the labeled pixels of every class, of the first run that has it; the most frequent first."""
    shares: dict[str, float] = {}
    for run in runs:
        shares = {**run.labeled_share, **shares}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _finished(run: Run) -> Finished:
    spec = RunSpec(
        run.label, str(run.config.data.labeled), run.config.data.fold, run.config.seed, run.config, run.config
    )
    return Finished(spec, run.result or {}, run.environment, run.timing, run.images)
