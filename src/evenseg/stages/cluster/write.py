"""The last pass: a map of subclasses for every labeled image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from evenseg.data.classes import Classes, palette
from evenseg.data.subclasses import parents
from evenseg.errors import InputError
from evenseg.inference.outputs import explained, write_label
from evenseg.stages.cluster.codebook import Codebook
from evenseg.stages.cluster.features import CellFiles, Cells
from evenseg.stages.cluster.grid import Grid
from evenseg.stages.pseudo_label.images import Images
from evenseg.training.folder import write_json
from evenseg.types import ignore_label

Mode = Literal["consistent", "nearest"]


class Written(NamedTuple):
    """What is noted of a map. pixels: of each subclass. valid: pixels with a class; wrong: those of them whose subclass
    does not belong to it. sha256: of the file."""

    pixels: list[int]
    valid: int
    wrong: int
    sha256: str


def subclass_map(
    label: np.ndarray, cells: Cells, codebook: Codebook, grid: Grid, classes: Classes, mode: Mode
) -> np.ndarray:
    """The subclasses of an image's pixels.

    Args:
        label: (H, W), classes or their ignore label.
        cells: of the image.
        codebook: on any device.
        grid: where the cells lie.
        classes: of the label.
        mode: ``consistent``: a pixel has the subclass that its cell has or would have in the pixel's class, and is
            ignored where the label is. ``nearest``: it has that of its cell.

    Returns:
        (H, W) uint16, ids or the ignore label of so many subclasses.
    """
    count, columns = len(codebook.counts), cells.label.shape[1]
    cell = grid.cells_of((label.shape[0], label.shape[1]), columns)
    seen = cells.label.ravel()[cell] if mode == "nearest" else label
    valid = seen != classes.ignore_label
    pair = cell * count + np.where(valid, seen, 0)  # of a cell and a class
    occurs = np.zeros(cells.label.size * count, bool)
    occurs[pair[valid]] = True
    pairs = torch.from_numpy(np.flatnonzero(occurs))
    feature = torch.from_numpy(cells.feature).flatten(0, 1)[pairs // count].to(codebook.centers.device)
    table: np.ndarray = np.zeros(len(occurs), np.uint16)
    table[occurs] = codebook.assign(feature, (pairs % count).to(feature.device)).cpu().numpy()
    ignored = np.uint16(ignore_label(len(codebook.centers)))
    return np.where(valid, table[pair], ignored)


def write_maps(
    output: Path,
    images: Images,
    numbers: Sequence[int],
    files: CellFiles,
    codebook: Codebook,
    grid: Grid,
    classes: Classes,
    *,
    mode: Mode,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes ``OUTPUT/labels/NAME.png`` of some images, and a note of each that it is done.

    Args:
        output: where to.
        images: with their labels as the truth.
        numbers: of the images of this process.
        files: their cells.
        codebook, grid, classes, mode: see ``subclass_map``.
        progress: called with (images done, images of this process).
    """
    total = len(codebook.centers)
    painted = Classes(tuple(map(str, range(total))), palette(total), None)
    parent = parents(codebook.counts.tolist(), classes)
    for done, number in enumerate(numbers, start=1):
        name, note = images.names[number], note_file(output, images.names[number])
        if not note.exists():
            label = images.truth(number)
            assert label is not None
            found = subclass_map(label, files.read(name), codebook, grid, classes, mode)
            path = map_file(output, name)
            with explained(path):
                write_label(path, found, painted)
            pixels = np.bincount(found[found != ignore_label(total)], minlength=total).tolist()
            valid = label != classes.ignore_label
            wrong = int((parent[found] != label)[valid].sum())
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            write_json(note, Written(pixels, int(valid.sum()), wrong, digest)._asdict())
        if progress is not None:
            progress(done, len(numbers))


def read_note(output: Path, name: str) -> Written:
    """What was noted of an image's map. Raises InputError where that is damaged."""
    path = note_file(output, name)
    try:
        return Written(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path}: missing or damaged; delete it and run the same command to make it anew") from None


def map_file(output: Path, name: str) -> Path:
    """The map of an image."""
    return output / "labels" / f"{name}.png"


def note_file(output: Path, name: str) -> Path:
    """The note that it is done."""
    return output / "notes" / f"{name}.json"
