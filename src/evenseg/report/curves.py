"""How training went: losses, validation, pseudo-labels, what the method keeps, over steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from evenseg.report.charts import Chart, Series, heat_chart, line_chart
from evenseg.report.runs import Run
from evenseg.report.tables import Cell, Table, name, number, percent
from evenseg.training.log import Record

HEALTH = {  # figures of a health record: title, unit
    "kept": ("Pseudo-labels kept", "share of the pixels"),
    "confidence": ("Confidence of the pseudo-labels", "mean confidence"),
    "disagreement": ("Teacher and student disagree", "share of the pixels"),
    "precision": ("Precision of the pseudo-labels", "share that is right"),
    "kl_divergence": ("Divergence from the labeled distribution", "KL divergence, nats"),
}
COMMON = ("step", "split", "lr", "loss")  # keys of every training record
MOST_POINTS = 500  # of a line: more are not seen, and fill the page
FACTOR = 8.0  # a share this many times too large or too small has the strongest colour


def training_charts(runs: Sequence[Run]) -> list[Chart]:
    """Loss, and validation of every network."""
    losses = [_series(run.label, run.of("train"), "loss", index) for index, run in enumerate(runs)]
    charts = [line_chart("Training loss", "loss", losses)]
    for key, title in (("miou", "mIoU on val"), ("tail_miou", "Tail mIoU on val")):
        series = []
        for index, run in enumerate(runs):
            networks = list(dict.fromkeys(record["network"] for record in run.of("val")))
            for network in networks:
                records = [record for record in run.of("val") if record["network"] == network]
                dashed = network != networks[-1]  # the headline comes last
                series.append(_series(f"{run.label}, {network}", records, key, index, dashed=dashed, factor=100))
        charts.append(line_chart(title, f"{title.split(' on')[0]}, %", series))
    return _drawn(charts)


def health_charts(runs: Sequence[Run]) -> list[Chart]:
    """Figures of all pseudo-labels over time, all runs in one chart."""
    charts = []
    for key, (title, unit) in HEALTH.items():
        series = [_series(run.label, run.of("health"), key, index) for index, run in enumerate(runs)]
        charts.append(line_chart(title, unit, series))
    series = [
        Series(f"{line.label}, {key}", line.x, line.y, line.color, line.dashed)
        for index, run in enumerate(runs)
        for key, dashed in (("precision", False), ("recall", True))
        if (line := _series(run.label, run.of("holdout"), key, index, dashed=dashed)).x
    ]
    charts.append(line_chart("Pseudo-labels of held-out images", "precision, recall", series))
    return _drawn(charts)


def share_charts(runs: Sequence[Run]) -> list[Chart]:
    """For each run with pseudo-labels: every class's share of them over its labeled share."""
    charts = []
    for run in runs:
        records = list(run.of("health"))
        labeled = run.labeled_share
        classes = sorted((each for each in run.names if labeled[each] > 0), key=lambda each: -labeled[each])
        if not records or not classes:
            continue
        ratio = np.array([[(r["per_class_share"].get(c) or 0.0) / labeled[c] for r in records] for c in classes])
        values = np.log2(np.clip(ratio, 1 / FACTOR, FACTOR))
        steps = [record["step"] for record in records]
        legend = "log2 of share / labeled share"
        title = f"{run.label}: pseudo-labels of every class against its labeled share (red: too few)"
        charts.append(heat_chart(title, classes, steps, values, legend=legend, limit=np.log2(FACTOR)))
    return charts


def method_charts(runs: Sequence[Run]) -> list[Chart]:
    """What the methods log of themselves: single values of all runs, then the thresholds and banks of each class."""
    charts = []
    for key in _own_keys(runs, scalar=True):
        series = [_series(run.label, run.of("train"), key, index) for index, run in enumerate(runs)]
        charts.append(line_chart(key, key, series))
    for run in runs:
        for key in _own_keys([run], scalar=False):
            records = [record for record in run.of("train") if key in record]
            title = key.removeprefix("per_class_")
            series = [
                Series(each, [r["step"] for r in records], [r[key].get(each) for r in records], index)
                for index, each in enumerate(run.names)
            ]
            charts.append(line_chart(f"{run.label}: {title} of every class", title, series))
    return _drawn(charts)


def health_table(run: Run) -> Table | None:
    """Every class at the end: the last quarter of the records, averaged."""
    records = list(run.of("health"))
    if not records:
        return None
    last = records[-max(1, len(records) // 4) :]
    labeled = run.labeled_share
    columns = [
        key
        for key in ("share", "kept", "confidence", "disagreement", "precision", "recall")
        if any(_mean(last, f"per_class_{key}", each) is not None for each in run.names)
    ]
    rows = [
        [name(each), percent(labeled[each], 2), *(percent(_mean(last, f"per_class_{key}", each)) for key in columns)]
        for each in run.names
    ]
    head = ["class", "labeled share", *columns]
    caption = f"{run.label}: pseudo-labels of every class in percent, mean from step {last[0]['step']} on"
    return Table(caption, head, rows, numbers=len(columns) + 1)


def holdout_table(run: Run) -> Table | None:
    """Every class at the last look at held-out images: measured there, and estimated for the unlabeled ones."""
    records = list(run.of("holdout"))
    if not records:
        return None
    last = records[-1]
    rows = []
    for each in run.names:
        low, high = last["per_class_estimate_low"][each], last["per_class_estimate_high"][each]
        ends = "too little to tell" if low is None else f"{100 * low:.0f} to {100 * high:.0f}"
        measured = [percent(last[f"per_class_{key}"][each]) for key in ("precision", "recall", "estimate")]
        numbers = [number(last[f"per_class_{key}"][each], "{}") for key in ("images", "pixels")]
        rows.append([name(each), *numbers, *measured, Cell(ends, -1.0 if low is None else low)])
    head = ["class", "images", "pixels", "precision", "recall", "estimate", "95 % interval"]
    caption = (
        f"{run.label}: pseudo-labels of held-out images at step {last['step']}, and the estimated precision of those "
        "of the unlabeled images, where it is sure to 5 points; %"
    )
    return Table(caption, head, rows, numbers=6)


def alarm_table(runs: Sequence[Run]) -> Table | None:
    """What was told while training; None if all was well."""
    rows = [
        [name(run.label), number(record["step"], "{}"), name(record["text"])]
        for run in runs
        for record in run.of("alarm")
    ]
    return Table("Alarms", ["run", "step", "what, and a remedy"], rows, numbers=0) if rows else None


def _series(
    label: str, records: Iterable[Record], key: str, color: int, *, dashed: bool = False, factor: float = 1.0
) -> Series:
    found = [(record["step"], record[key]) for record in records if key in record]
    found = found[:: -(-len(found) // MOST_POINTS) or 1]
    values = [None if value is None else factor * value for _, value in found]
    return Series(label, [step for step, _ in found], values, color, dashed)


def _own_keys(runs: Sequence[Run], *, scalar: bool) -> list[str]:
    """Keys of the training records that are neither losses nor the trainer's own."""
    keys = dict.fromkeys(
        key
        for run in runs
        for record in run.of("train")
        for key, value in record.items()
        if key not in COMMON and not key.startswith("loss/") and isinstance(value, dict) != scalar
    )
    return list(keys)


def _mean(records: Sequence[Record], key: str, each: str) -> float | None:
    values = [value for record in records if (value := record.get(key, {}).get(each)) is not None]
    return sum(values) / len(values) if values else None


def _drawn(charts: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]
