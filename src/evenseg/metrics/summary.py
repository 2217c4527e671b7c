"""The figures of one evaluation, in the form in which they are written to ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from evenseg.metrics.confusion import (
    class_accuracy,
    frequency_weighted_iou,
    iou_per_class,
    mean_over_classes,
    pixel_accuracy,
)


def summarize(counts: Tensor, names: Sequence[str], tail: Sequence[str]) -> dict[str, Any]:
    """All figures of a confusion matrix.

    Args:
        counts: (C, C) int64; row: truth, column: prediction.
        names: C class names.
        tail: names of the tail classes; all others are the head.

    Returns:
        ``miou``, ``tail_miou``, ``head_miou``, ``per_class_iou`` (by name), ``per_class_accuracy``
        (by name), ``pixel_accuracy``, ``mean_accuracy``, ``frequency_weighted_iou``: fractions in
        [0, 1] as plain floats, None where nothing of the kind occurs, ready for JSON.

    Raises:
        ValueError: names and counts differ in number, or a tail class is not among the names.
    """
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"a confusion matrix of shape {tuple(counts.shape)} does not fit {len(names)} class names")
    unknown = [name for name in tail if name not in names]
    if unknown:
        raise ValueError(f"tail class {unknown[0]!r} is not among the classes")
    rare = [index for index, name in enumerate(names) if name in tail]
    frequent = [index for index, name in enumerate(names) if name not in tail]
    iou, accuracy = iou_per_class(counts), class_accuracy(counts)
    return {
        "miou": _plain(mean_over_classes(iou)),
        "tail_miou": _plain(mean_over_classes(iou, rare)),
        "head_miou": _plain(mean_over_classes(iou, frequent)),
        "per_class_iou": {name: _plain(value) for name, value in zip(names, iou, strict=True)},
        "per_class_accuracy": {name: _plain(value) for name, value in zip(names, accuracy, strict=True)},
        "pixel_accuracy": _plain(pixel_accuracy(counts)),
        "mean_accuracy": _plain(mean_over_classes(accuracy)),
        "frequency_weighted_iou": _plain(frequency_weighted_iou(counts)),
    }


def _plain(value: Tensor) -> float | None:
    """A float, or None for NaN, which JSON does not know."""
    number = float(value)
    return None if math.isnan(number) else number
