"""Which published numbers may stand beside the runs of a plan: those of the same images, network and protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evenseg.benchmark.finished import Finished
from evenseg.benchmark.published import Published, PublishedTable, published_tables
from evenseg.benchmark.summary import Figure
from evenseg.networks.build import resolve_architecture, resolve_encoder


class PublishedLine(NamedTuple):
    """One published number. split: the plan's name of it. miou: a fraction, as our own figures. source: see
    ``Published.source``."""

    method: str
    split: str
    miou: Figure
    source: str


class Beside(NamedTuple):
    """What stands beside a plan; notes: one line for each table named in it that does not, with the reason."""

    lines: list[PublishedLine]
    notes: list[str]


def beside(names: Iterable[str], finished: Sequence[Finished], splits: Iterable[str]) -> Beside:
    """The published numbers for the splits of a plan.

    Args:
        names: of published tables.
        finished: runs of the plan.
        splits: of the plan, in the order of its table.
    """
    found = Beside([], [])
    by_split = {split: [run for run in finished if run.spec.split == split] for split in splits}
    for name in names:
        published, reasons, shown = published_tables()[name], dict[str, None](), False
        for split, runs in by_split.items():
            if not runs:
                continue
            reason = why_not(published.table, runs)
            if reason:
                reasons[reason] = None
            else:
                shown = True
                found.lines.extend(_lines(published, split, runs))
        if not shown:
            why = "; ".join(reasons) or "no run of this plan is finished"
            found.notes.append(f"published table {name} is not shown: {why}")
    return found


def why_not(table: PublishedTable, runs: Sequence[Finished]) -> str | None:
    """Why no number of a table may stand beside these runs; None where some may. What is not known never may."""
    if table.protocol.label is None:
        said = f'; all it says is "{table.protocol.said}"' if table.protocol.said else ""
        return f"the paper does not say how images were predicted{said}"
    for run in runs:
        for what, ours, theirs in _conditions(table, run):
            if ours != theirs:
                return f"{what}: {theirs or 'not stated'} there, {ours} here"
        ids = run.environment.get("ids_sha256")
        if ids is None:
            return "these runs are of a version that did not record the ids of their images; train them again"
        if table.scored.ids_sha256 is None or ids.get(run.result["split"]) != table.scored.ids_sha256:
            return f"other images are scored than the {table.scored.images} of its {table.scored.name}"
        if ids["labeled"] not in _columns(table):
            if not any(split.ids_sha256 for split in table.splits.values()):
                return "which images were labeled is not public"
            return "other images are labeled than in any of its splits"
    if len({run.environment["ids_sha256"]["labeled"] for run in runs}) > 1:
        return "the folds of this split label different images"
    return None


def _conditions(table: PublishedTable, run: Finished) -> list[tuple[str, object, object]]:
    """What has to be equal: what it is, ours, theirs."""
    network, data = run.spec.config.network, run.spec.config.data
    return [
        ("architecture", resolve_architecture(network.architecture), table.network.architecture),
        ("encoder", resolve_encoder(network.encoder), table.network.encoder),
        ("protocol", run.result["protocol"], table.protocol.label),
        ("size of the images", _size(data.resize), _size(table.resize)),
        ("number of classes", len(run.result["per_class_iou"] or ()), table.classes),
    ]


def _size(resize: int | tuple[int, int] | None) -> str:
    if resize is None:
        return "their own"
    return f"{resize[0]}x{resize[1]}" if isinstance(resize, tuple) else f"short side {resize}"


def _columns(table: PublishedTable) -> dict[str, int]:
    """Index of the column of each public list of labeled images."""
    hashes = [split.ids_sha256 for split in table.splits.values()]
    return {hash_: index for index, hash_ in enumerate(hashes) if hash_ is not None}


def _lines(published: Published, split: str, runs: Sequence[Finished]) -> list[PublishedLine]:
    column = _columns(published.table)[runs[0].environment["ids_sha256"]["labeled"]]
    lines = []
    for method, values in published.table.rows.items():
        value = values[column]
        if value is not None:
            mean, std = value if isinstance(value, tuple) else (value, None)
            figure = Figure(mean / 100, None if std is None else std / 100)
            lines.append(PublishedLine(method, split, figure, published.source))
    return lines
