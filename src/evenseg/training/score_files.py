"""Files of a run folder beside ``result.json`` that say more of the headline network: which classes it takes for
which (``confusion.csv``), and how well it finds objects of which size (``objects.json``)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.metrics.confusion import ConfusionMatrix
from evenseg.metrics.object_size import EDGES, ObjectCounts, ObjectSizes
from evenseg.training.checkpoint import write_text
from evenseg.training.image_scores import intact

CONFUSION, OBJECTS = "confusion.csv", "objects.json"
WITHOUT = "and the report is made without"


class Details(NamedTuple):
    """What is noted of a network while it is scored.

    image_counts: (N, 3, C) int64, see ``metrics.image_counts``. objects, confusion: sums over the N images.
    """

    image_counts: Tensor
    objects: ObjectSizes
    confusion: ConfusionMatrix


def no_details(images: int, classes: int) -> Details:
    """Of N images, before any is scored."""
    counts = torch.zeros(images, 3, classes, dtype=torch.int64)
    return Details(counts, ObjectSizes(classes), ConfusionMatrix(classes))


def write_confusion(folder: Path, counts: Tensor, names: Sequence[str]) -> None:
    """A row for each true class, a column for each predicted one; pixels."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["true class", *names])
    table.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    write_text(folder / CONFUSION, text.getvalue())


def read_confusion(folder: Path) -> Tensor | None:
    """(C, C) int64 counts; None where there is no such file.

    Raises:
        InputError: a damaged file.
    """
    path = folder / CONFUSION
    if not path.is_file():
        return None
    with intact(path, WITHOUT), open(path, encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
        counts = torch.tensor([[int(cell) for cell in row[1:]] for row in rows], dtype=torch.int64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError("not square")
        return counts


def write_objects(folder: Path, sizes: ObjectSizes, names: Sequence[str]) -> None:
    """Objects, their pixels and the right ones of these, by class and size."""
    counts = ObjectCounts(*sizes.counts)
    tables = {key: dict(zip(names, table.tolist(), strict=True)) for key, table in counts._asdict().items()}
    write_text(folder / OBJECTS, json.dumps({"largest_share_of_image": EDGES, **tables}) + "\n")


def read_objects(folder: Path) -> ObjectCounts | None:
    """The counts of ``objects.json``, (C, len(EDGES)) each; None where there is no such file.

    Raises:
        InputError: a damaged file.
    """
    path = folder / OBJECTS
    if not path.is_file():
        return None
    with intact(path, WITHOUT):
        content = json.loads(path.read_text(encoding="utf-8"))
        tables = [torch.tensor(list(content[key].values()), dtype=torch.int64) for key in ObjectCounts._fields]
        if any(table.ndim != 2 or table.shape[1] != len(EDGES) for table in tables):
            raise ValueError("of other sizes")
        return ObjectCounts(*tables)
