"""Values of label files to the labels used inside: class ids, and one value for "ignore"."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from evenseg.data.classes import Classes
from evenseg.errors import InputError
from evenseg.types import ignore_label

_SHOWN = 8  # ids named in a message


def to_internal(values: np.ndarray, classes: Classes, path: str | Path) -> np.ndarray:
    """Translate the values of a label file.

    Args:
        values: (H, W) uint8 or uint16, class ids and ``classes.ignore_index``.
        classes: their meaning.
        path: the file, for the message.

    Returns:
        (H, W) uint8, or uint16 above 255 classes: class ids and ``classes.ignore_label``.

    Raises:
        InputError: other values occur; the message names them.
    """
    table, unknown = _tables(classes.num_classes, classes.ignore_index)
    eight_bit = values.dtype == np.uint8
    strange = cv2.LUT(values, unknown[:256]) if eight_bit else unknown[values]
    if cv2.countNonZero(strange):
        raise InputError(_unknown_ids(values, strange, classes, path))
    if values.dtype == table.dtype and classes.ignore_index in (classes.ignore_label, None):
        return values  # the files use the internal labels
    return cv2.LUT(values, table[:256]) if eight_bit and table.dtype == np.uint8 else table[values]


def count_classes(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each class in an internal label map (H, W); (C,) int64."""
    return np.bincount(label.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)


@lru_cache(maxsize=8)
def _tables(num_classes: int, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    """By file value: the internal label, (65536,) uint8 or uint16, and 1 where there is none, (65536,) uint8."""
    dtype = np.uint8 if num_classes <= 255 else np.uint16
    table = np.zeros(65536, dtype)
    table[:num_classes] = np.arange(num_classes, dtype=dtype)
    unknown = np.ones(65536, np.uint8)
    unknown[:num_classes] = 0
    if ignore_index is not None:
        table[ignore_index] = ignore_label(num_classes)
        unknown[ignore_index] = 0
    return table, unknown


def _unknown_ids(values: np.ndarray, strange: np.ndarray, classes: Classes, path: str | Path) -> str:
    ids = np.unique(values[strange != 0]).tolist()
    named = ", ".join(map(str, ids[:_SHOWN])) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
    ignored = "no ignore_index is set" if classes.ignore_index is None else f"ignore_index is {classes.ignore_index}"
    return (
        f"{path}: label ids outside the {classes.num_classes} classes (0..{classes.num_classes - 1}): {named}; "
        f"{ignored}; correct the label, or `names` and `ignore_index` of classes.json"
    )
