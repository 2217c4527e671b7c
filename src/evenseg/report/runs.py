"""What a report knows of a run: everything that lies in its folder, finished or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from evenseg.benchmark.labels import labels
from evenseg.config import Config
from evenseg.errors import InputError
from evenseg.metrics.object_size import ObjectCounts
from evenseg.training.folder import RunFacts, read_run
from evenseg.training.image_scores import ImageScores, read_image_scores
from evenseg.training.log import Record, read
from evenseg.training.score_files import read_confusion, read_objects
from evenseg.training.timing import read_timing


class Run(NamedTuple):
    """label: what tells it from the others. result: None while it trains; so are the parts that come with it."""

    label: str
    folder: Path
    config: Config
    facts: RunFacts
    environment: dict[str, Any]
    timing: dict[str, Any]
    records: list[Record]
    result: dict[str, Any] | None
    images: ImageScores | None
    confusion: Tensor | None
    objects: ObjectCounts | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its C classes."""
        return self.facts.classes.names

    @property
    def scored(self) -> bool:
        """Whether it is finished and has a score."""
        return self.result is not None and self.result["miou"] is not None

    @property
    def labeled_share(self) -> dict[str, float]:
        """Share of the labeled pixels by class name."""
        total = max(int(self.facts.class_frequency.sum()), 1)
        return {name: int(n) / total for name, n in zip(self.names, self.facts.class_frequency, strict=True)}

    def of(self, split: str) -> Iterator[Record]:
        """The records of one kind."""
        return (record for record in self.records if record["split"] == split)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders.

    Raises:
        InputError: one is no run folder, is given twice, or holds a damaged file.
    """
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    for path, folder in zip(paths, folders, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"{folder}: is given twice; name every run once")
    return [_read(folder, label) for folder, label in zip(folders, labels(paths), strict=True)]


def _read(folder: Path, label: str) -> Run:
    config, facts = read_run(folder)
    result = _json(folder / "result.json") if (folder / "result.json").is_file() else None
    log = folder / "metrics.jsonl"
    return Run(
        label,
        folder,
        config,
        facts,
        _json(folder / "environment.json"),
        read_timing(folder),
        read(log) if log.is_file() else [],
        result,
        read_image_scores(folder),
        read_confusion(folder),
        read_objects(folder),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: missing or damaged; run the training command again")
    return content
