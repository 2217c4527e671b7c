"""The last pass: label maps, a list of them, and the counts for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evenseg.data.classes import Classes
from evenseg.data.labels import count_classes
from evenseg.data.lists import Entry, format_line
from evenseg.errors import InputError
from evenseg.functional.distributed import sum_over_ranks
from evenseg.inference.outputs import explained, write_label
from evenseg.stages.pseudo_label.cut import Cut, Image
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.shards import Shards
from evenseg.training.checkpoint import write_text
from evenseg.training.folder import write_json
from evenseg.types import ignore_label

PARTS = "parts"  # folder of notes that a shard is done


class Counts(NamedTuple):
    """Pixels of each class, (C,) int64 each: kept as pseudo-labels; of pixels with known truth: kept as pseudo-labels,
    rightly so, and of the class."""

    kept: Tensor
    judged: Tensor
    right: Tensor
    truth: Tensor


def stored_images(shards: Shards, names: Sequence[str], numbers: Sequence[int]) -> Iterator[Image]:
    """The images of some shards that could be read."""
    for shard in numbers:
        for number, predicted in shards.read(shard):
            if not predicted.fault:
                yield Image(number, names[number], predicted)


def write_labels(
    folder: Path,
    shards: Shards,
    images: Images,
    cut: Cut,
    classes: Classes,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Writes ``FOLDER/labels/NAME.png`` of every image; pixels that are not kept have the ignore value.

    A shard whose labels are all written leaves a note in ``PARTS``, by which a second run passes it over.

    Returns:
        Counts over all processes.
    """
    own = range(rank, len(shards), world_size)
    total, done = sum(len(shards.members(shard)) for shard in own), 0
    counts = torch.zeros(4, shards.num_classes, dtype=torch.int64)
    for shard in own:
        note = folder / PARTS / f"{shard:06d}.json"
        if not note.exists():
            part = _write_shard(folder, shards, shard, images, cut, classes, seed)
            write_json(note, {"counts": part.tolist()})
        counts += torch.tensor(json.loads(note.read_text(encoding="utf-8"))["counts"])
        done += len(shards.members(shard))
        if progress is not None:
            progress(done, total)
    return Counts(*sum_over_ranks(counts))


def write_list(folder: Path, images: Images, without: set[int], *, portable: bool) -> Path:
    """``FOLDER/list.txt``: image and label of every image, ready to be trained on.

    Args:
        folder: as above.
        images: all of them.
        without: numbers of those that have no label.
        portable: labels relative to the folder, which may then be moved; else by their whole path.
    """
    base = Path() if portable else folder.resolve()
    lines = [
        format_line(Entry(line, str(_label_file(base, name)), ""))
        for number, (line, name) in enumerate(zip(images.lines, images.names, strict=True))
        if number not in without
    ]
    path = folder / "list.txt"
    write_text(path, "".join(line + "\n" for line in lines))
    return path


def _write_shard(
    folder: Path, shards: Shards, shard: int, images: Images, cut: Cut, classes: Classes, seed: int
) -> Tensor:
    """Labels of the images of a shard; (4, C) counts."""
    counts = np.zeros((4, classes.num_classes), dtype=np.int64)
    ignored = ignore_label(classes.num_classes)
    in_files = ignored if classes.ignore_index is None else classes.ignore_index
    for image in stored_images(shards, images.names, [shard]):
        predicted, kept = image.predicted.label, cut.kept(image, seed)
        path = _label_file(folder, image.name)
        with explained(path):
            wide = predicted if in_files <= np.iinfo(predicted.dtype).max else predicted.astype(np.uint16)
            write_label(path, np.where(kept, wide, wide.dtype.type(in_files)), classes)
        counts[0] += count_classes(predicted[kept], classes.num_classes)
        truth = images.truth(image.number)
        if truth is None:
            continue
        if truth.shape != predicted.shape:
            raise InputError(
                f"{image.name}: its truth is {truth.shape[0]}x{truth.shape[1]} pixels, the image "
                f"{predicted.shape[0]}x{predicted.shape[1]}; give label maps of the size of the images"
            )
        judged = kept & (truth != ignored)
        counts[1] += count_classes(predicted[judged], classes.num_classes)
        counts[2] += count_classes(predicted[judged & (predicted == truth)], classes.num_classes)
        counts[3] += count_classes(truth[truth != ignored], classes.num_classes)
    return torch.from_numpy(counts)


def _label_file(folder: Path, name: str) -> Path:
    return folder / "labels" / f"{name}.png"
