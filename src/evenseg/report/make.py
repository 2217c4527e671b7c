"""From run folders to one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evenseg import __version__
from evenseg.benchmark.difference import Units
from evenseg.config import dump
from evenseg.report import curves, scores
from evenseg.report.pictures import galleries
from evenseg.report.runs import Run, read_runs
from evenseg.report.tables import Table, name, unsorted
from evenseg.training.checkpoint import write_text

LARGEST = 9_500_000  # bytes of the page: what charts and tables leave of it is for the pictures
PAGE = Path(__file__).parent / "page"

Progress = Callable[[int, int], None]


def make_report(folders: Sequence[Path], output: Path, units: Units, progress: Progress | None = None) -> int:
    """Writes the page about these runs; the first one is what the others are compared with.

    Args:
        folders: run folders, finished or still training.
        output: the HTML file; replaced if it exists.
        units: what counts as one independent image in the intervals.
        progress: called with (parts done, all parts).

    Returns:
        The size of the page in bytes.

    Raises:
        InputError: a folder is no run, or holds a damaged file, or the output cannot be written.
    """
    runs = read_runs(folders)
    parts = len(runs) + 2

    def done(part: int) -> None:
        if progress is not None:
            progress(part, parts)

    intervals = []
    for index, run in enumerate(runs):
        intervals.append(scores.intervals_of(run, units))
        done(index + 1)
    content = _content(runs, intervals, units)
    done(parts - 1)
    template = _environment().get_template("report.html")
    without = len(template.render(content, galleries=[]).encode())
    text = template.render(content, galleries=galleries(runs, LARGEST - without))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    done(parts)
    return len(text.encode())


def _content(runs: Sequence[Run], intervals: Sequence[scores.Intervals], units: Units) -> dict[str, Any]:
    """What the template draws, by name, but for the pictures."""
    scored = any(run.scored for run in runs)
    return {
        "title": runs[0].label if len(runs) == 1 else f"{len(runs)} runs",
        "version": __version__,
        "what_was_run": run_table(runs),
        "configs": [(run.label, dump(run.config)) for run in runs],
        "alarms": curves.alarm_table(runs),
        "headline": scores.headline_table(runs, intervals) if scored else None,
        "differences": scores.difference_table(runs, units),
        "networks": scores.network_table(runs) if scored else None,
        "classes": scores.class_table(runs, intervals) if scored else None,
        "frequency": scores.frequency_chart(runs),
        "groups": scores.group_table(runs),
        "objects": scores.object_chart(runs),
        "training": curves.training_charts(runs),
        "health": curves.health_charts(runs),
        "shares": curves.share_charts(runs),
        "health_tables": [
            table for run in runs for table in (curves.health_table(run), curves.holdout_table(run)) if table
        ],
        "method": curves.method_charts(runs),
        "confusions": [table for run in runs for table in scores.confusion_tables(run)],
        "legend": [
            (each, "#" + bytes(color).hex())
            for each, color in zip(runs[0].names, runs[0].facts.classes.colors, strict=True)
        ],
    }


def run_table(runs: Sequence[Run]) -> Table:
    """Configuration, data and versions, a row for each fact and a column for each run."""
    facts: list[tuple[str, Callable[[Run], object]]] = [
        ("method", lambda run: run.config.method_name),
        ("network", lambda run: f"{run.config.network.architecture}, {run.config.network.encoder}"),
        ("weights", lambda run: run.config.network.weights or "random"),
        ("steps", lambda run: f"{_step(run)} of {run.config.train.steps}"),
        (
            "images a step",
            lambda run: f"{run.config.train.labeled_batch} + {run.config.train.unlabeled_batch} unlabeled",
        ),
        ("data", lambda run: run.config.data.dataset),
        ("labeled", lambda run: f"{run.config.data.labeled} (fold {run.config.data.fold})"),
        ("seed", lambda run: run.config.seed),
        ("scored on", lambda run: (run.result or {}).get("split")),
        ("protocol", lambda run: (run.result or {}).get("protocol")),
        ("split SHA-256", lambda run: str((run.result or {}).get("split_sha256") or "")[:16]),
        ("tail classes", lambda run: ", ".join(run.facts.tail.names)),
        (
            "evenseg",
            lambda run: f"{run.environment.get('evenseg')} ({str(run.environment.get('git') or 'installed')[:12]})",
        ),
        ("torch", lambda run: run.environment.get("libraries", {}).get("torch")),
        (
            "hardware",
            lambda run: ", ".join(run.environment.get("gpus") or [f"{run.environment.get('cpu_count')} CPU cores"]),
        ),
        ("precision", lambda run: run.environment.get("precision")),
    ]
    rows = [[name(title), *(name(_text(of(run))) for run in runs)] for title, of in facts]
    return unsorted("What was run", ["", *(run.label for run in runs)], rows, numbers=0)


def _step(run: Run) -> int:
    return int(run.records[-1]["step"]) if run.records else 0


def _text(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    for file in ("style.css", "sort.js"):
        environment.globals[file.partition(".")[0]] = Markup((PAGE / file).read_text(encoding="utf-8"))
    return environment
