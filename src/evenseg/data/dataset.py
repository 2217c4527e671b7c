"""What every data source offers, and what a run is given of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from evenseg.data.classes import Classes

SUBCLASS = "subclass"  # name of their maps in a batch


@runtime_checkable
class Dataset(Protocol):
    """Images and label maps by position, decoded when asked for.

    Implementations are immutable, picklable and may be read from several threads and processes at
    once. ``image`` and ``label`` of one position have the same height and width.
    """

    @property
    def classes(self) -> Classes:
        """The classes of the label maps."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def image(self, index: int) -> np.ndarray:
        """Image, (H, W, 3) uint8 RGB, contiguous. Raises ``InputError`` naming an unreadable file."""
        ...

    def label(self, index: int) -> np.ndarray | None:
        """Label map, (H, W) uint8, or uint16 above 255 classes: ids 0..C-1 or ``classes.ignore_label``.

        None for images whose label is not known; unlabeled lists never open a label file.
        """
        ...

    def name(self, index: int) -> str:
        """What the user calls the image: its path as written in the list, or ``synthetic/00012``."""
        ...


class Subset:
    """Some images of a data set, in the order of ``indices``; a ``Dataset`` itself."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = tuple(indices)
        self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> np.ndarray:
        """See ``Dataset``."""
        return self.dataset.image(self.indices[index])

    def label(self, index: int) -> np.ndarray | None:
        """See ``Dataset``."""
        return self.dataset.label(self.indices[index])

    def name(self, index: int) -> str:
        """See ``Dataset``."""
        return self.dataset.name(self.indices[index])


class Subclasses(NamedTuple):
    """Labeled pixels by subclass.

    counts: (C,) int64, subclasses of each class; those of class c have the ids offsets[c] to
    offsets[c] + counts[c] - 1, where offsets are the sums of the counts before. read: the (H, W) map of a labeled
    image by its position, uint8, or uint16 above 255 subclasses, with ids or the ignore label of so many. It can be
    pickled.
    """

    counts: np.ndarray
    read: Callable[[int], np.ndarray]

    def maps(self, index: int) -> dict[str, np.ndarray]:
        """As the loader takes further label maps of a labeled image."""
        return {SUBCLASS: self.read(index)}


class DataSplits(NamedTuple):
    """The data of a run. Absent parts are None.

    class_frequency: (C,) int64, pixels of each class in the labeled images as they are trained on
    (after ``data.resize``). class_presence: (n, C) bool, which labeled image contains which class.
    split_sha256 and lists: by list name (``labeled``, ``unlabeled``, ``pseudo_labeled``, ``val``, ``test``,
    ``holdout``, where given): the fingerprint of the list and its lines, see ``splits.fingerprint``.
    warnings: sentences for the user. holdout: labeled images that are withheld from training, and
    neither in ``labeled`` nor in ``unlabeled``. pseudo_labeled: images with labels that a network has made, which
    no count of classes includes. subclasses: finer label maps of ``labeled``, by position; ``lists`` has what they are.
    """

    classes: Classes
    labeled: Dataset
    unlabeled: Dataset | None
    val: Dataset | None
    test: Dataset | None
    class_frequency: np.ndarray
    class_presence: np.ndarray
    split_sha256: dict[str, str]
    lists: dict[str, list[str]]
    warnings: list[str]
    holdout: Dataset | None = None
    pseudo_labeled: Dataset | None = None
    subclasses: Subclasses | None = None
