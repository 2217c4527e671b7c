"""``images.npz`` of a run folder: what every scored image contributes to the headline figures."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evenseg.errors import InputError
from evenseg.training.checkpoint import write_atomically

FILE = "images.npz"


class ImageScores(NamedTuple):
    """counts: (N, 3, C) int64, see ``metrics.image_counts``. names: of the N images, in the order of the list."""

    counts: Tensor
    names: tuple[str, ...]


def write_image_scores(folder: Path, scores: ImageScores) -> None:
    """Writes the file, compressed: some tens of bytes an image and class."""
    counts = scores.counts.numpy().astype(np.uint32)  # an image has fewer than 2^32 pixels
    write_atomically(
        folder / FILE, lambda file: np.savez_compressed(file, counts=counts, names=np.array(scores.names, np.str_))
    )


def read_image_scores(folder: Path) -> ImageScores | None:
    """The content of the file; None where there is none.

    Raises:
        InputError: a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with intact(path, "or score the run again"), np.load(path, allow_pickle=False) as stored:
        return ImageScores(torch.from_numpy(stored["counts"].astype(np.int64)), tuple(stored["names"].tolist()))


@contextmanager
def intact(path: Path, remedy: str) -> Iterator[None]:
    """Reads a score file; whatever is wrong with its content becomes an ``InputError`` that tells to remove it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        raise InputError(f"{path}: damaged; remove it, {remedy}") from None
