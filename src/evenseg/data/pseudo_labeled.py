"""``data.pseudo_labeled``: a list of images with labels that a network has made.

Images are found as in any list; a relative label lies beside the list, if there is one there, else below the root.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evenseg.data.classes import Classes
from evenseg.data.dataset import Dataset
from evenseg.data.image_io import decode_label
from evenseg.data.labels import to_internal
from evenseg.data.lists import Entry, read_source
from evenseg.errors import InputError

KEY = "pseudo_labeled"


def pseudo_label_classes(classes: Classes) -> Classes:
    """The classes of pseudo-labels: nothing is selected somewhere, also where every pixel of a label has a class."""
    return classes if classes.ignore_index is not None else classes._replace(ignore_index=classes.ignore_label)


def read_pseudo_labeled(value: str, root: Path) -> list[Entry]:
    """The entries of ``data.pseudo_labeled``, a list file.

    Raises:
        InputError: a folder, or whatever is wrong with a list.
    """
    path = root / os.path.expanduser(value)
    if value.strip() and os.path.isdir(path):
        raise InputError(f"data.{KEY}: {path} is a folder; set it to a list file of `image label` lines")
    return read_source(value, root, key=KEY, labeled=True)


def with_label_files(entries: Sequence[Entry], value: str, root: Path) -> list[Entry]:
    """The entries of ``read_pseudo_labeled``, the labels that lie beside the list by their whole path."""
    folder = Path(os.path.abspath(root / os.path.expanduser(value))).parent
    found = []
    for entry in entries:
        beside = folder / str(entry.label)  # of an absolute label: itself
        found.append(entry._replace(label=str(beside)) if os.path.lexists(beside) else entry)
    return found


class Relabeled:
    """The images of a data set with label files of their own; a ``Dataset``.

    Args:
        images: whose labels are left alone.
        labels: a label file for each image, of its size.
        classes: the meaning of the values in these files.
    """

    def __init__(self, images: Dataset, labels: Sequence[Path], classes: Classes) -> None:
        self.images = images
        self.labels = tuple(labels)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """See ``Dataset``."""
        return self.images.image(index)

    def label(self, index: int) -> np.ndarray:
        """Label map, (H, W) uint8 or uint16. Raises ``InputError`` naming the file."""
        return to_internal(decode_label(self.labels[index]), self.classes, self.labels[index])

    def name(self, index: int) -> str:
        """See ``Dataset``."""
        return self.images.name(index)
