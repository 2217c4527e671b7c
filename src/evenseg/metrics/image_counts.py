"""What one image contributes to the IoU of every class: three counts a class, small enough to keep for each image.

The whole confusion matrix of an image has C x C numbers; IoU needs only its diagonal and its two margins. With
these counts of every image, scores of any subset or resample of the images follow by addition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def image_counts(matrix: Tensor) -> Tensor:
    """(..., C, C) confusion counts to (..., 3, C): hits, true pixels and predicted pixels of each class."""
    return torch.stack([matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(dim=-1), matrix.sum(dim=-2)], dim=-2)


def mean_iou(counts: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """Mean IoU over the classes that occur, as ``metrics.confusion`` defines it.

    Args:
        counts: (..., 3, C) sums of ``image_counts`` over images.
        classes: ids to average over (the tail, for instance); None: all.

    Returns:
        (...) float64; NaN where none of the classes occurs.
    """
    iou = class_iou(counts)
    return (iou if classes is None else iou[..., list(classes)]).nanmean(dim=-1)


def class_iou(counts: Tensor) -> Tensor:
    """IoU of each class, (..., 3, C) sums of ``image_counts`` to (..., C) float64; NaN where it does not occur."""
    hits, truth, predicted = counts.double().unbind(dim=-2)
    return (hits / (truth + predicted - hits)).masked_fill(truth == 0, torch.nan)
