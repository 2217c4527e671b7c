"""Images and labels in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evenseg.data.classes import Classes
from evenseg.data.image_io import decode_image, decode_label
from evenseg.data.labels import to_internal
from evenseg.data.lists import Entry
from evenseg.data.resize import Resize, resize_image, resize_label


class FolderDataset:
    """A list of image files, each with a label file or without; a ``Dataset``.

    Args:
        root: what relative paths are relative to.
        entries: the images; an entry without label has ``label() is None``.
        classes: the meaning of the values in the label files.
        resize: ``data.resize``, applied to image and label at once.
    """

    def __init__(self, root: Path, entries: Sequence[Entry], classes: Classes, *, resize: Resize = None) -> None:
        self.root = root
        self.entries = tuple(entries)
        self.classes = classes
        self.resize = resize

    def __len__(self) -> int:
        return len(self.entries)

    def image(self, index: int) -> np.ndarray:
        """Image, (H, W, 3) uint8 RGB. Raises ``InputError`` naming the file."""
        return resize_image(decode_image(self.root / self.entries[index].image), self.resize)

    def label(self, index: int) -> np.ndarray | None:
        """Label map, (H, W) uint8 or uint16, or None without one. Raises ``InputError`` naming the file."""
        label = self.entries[index].label
        if label is None:
            return None
        path = self.root / label
        return resize_label(to_internal(decode_label(path), self.classes, path), self.resize)

    def name(self, index: int) -> str:
        """Path of the image as written in the list."""
        return self.entries[index].image

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that image and label are read from."""
        entry = self.entries[index]
        return tuple(self.root / name for name in (entry.image, entry.label) if name is not None)
