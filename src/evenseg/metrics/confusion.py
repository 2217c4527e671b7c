"""The confusion matrix of a whole data set and the figures read off it.

Segmentation tables are made from one matrix over all pixels of all images, never from means of
per-image scores. The matrix is integer, so sums over batches and ranks are exact in any order.

A class *occurs* when the truth holds at least one pixel of it. Figures of a class that does not
occur are NaN and take no part in any mean. Pixels wrongly predicted as such a class are not lost:
they are missing from the classes they truly belong to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks


def confusion_counts(pred: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count the pairs of truth and prediction.

    Args:
        pred: (H, W) or (B, H, W), any integer dtype, values 0..C-1.
        label: of the same shape, any integer dtype; values of C and above (255 or 65535) are ignored.
        num_classes: C.

    Returns:
        (C, C) int64 on the device of ``pred``; row: truth, column: prediction.

    Raises:
        ValueError: the shapes differ, or ``pred`` or ``label`` holds a value that is no class.
    """
    if pred.shape != label.shape:
        raise ValueError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
    if pred.numel() == 0:
        return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=pred.device)
    # Ignored pixels are counted in a row of their own: masking them out costs ten times as much.
    # Narrow codes halve the memory traffic, which is all that this costs.
    bins = (num_classes + 1) * num_classes
    narrow = torch.int16 if bins <= torch.iinfo(torch.int16).max else torch.int32
    lowest, highest = torch.aminmax(pred)
    if int(lowest) < 0 or int(highest) >= num_classes:
        raise ValueError(f"predictions range from {int(lowest)} to {int(highest)}, classes from 0 to {num_classes - 1}")
    if label.dtype != torch.uint8 and int(label.min()) < 0:
        raise ValueError(f"label {int(label.min())} is negative; ignored pixels are 255 (65535 above 255 classes)")
    ceiling = min(num_classes, torch.iinfo(label.dtype).max)  # a uint8 label cannot hold 256
    code = label.clamp(max=ceiling).to(narrow).mul_(num_classes).add_(pred.to(narrow))
    return torch.bincount(code.flatten(), minlength=bins)[: num_classes**2].view(num_classes, num_classes)


def iou_per_class(counts: Tensor) -> Tensor:
    """Intersection over union of each class, (C,) float64 in [0, 1]; NaN where it does not occur.

    Args:
        counts: (C, C) int64; row: truth, column: prediction.
    """
    hits = counts.diagonal().double()
    truth = counts.sum(dim=1).double()
    return _where_it_occurs(hits / (truth + counts.sum(dim=0) - hits), truth)


def class_accuracy(counts: Tensor) -> Tensor:
    """Share of each class's pixels that is found (its recall), (C,) float64; NaN where it does not occur."""
    truth = counts.sum(dim=1).double()
    return _where_it_occurs(counts.diagonal() / truth, truth)


def pixel_accuracy(counts: Tensor) -> Tensor:
    """Share of all labeled pixels that is right, float64 scalar; NaN without any pixel."""
    return counts.diagonal().sum().double() / counts.sum()


def frequency_weighted_iou(counts: Tensor) -> Tensor:
    """Mean IoU weighted by the true pixels of each class, float64 scalar; NaN without any pixel."""
    truth = counts.sum(dim=1).double()
    return (iou_per_class(counts).nan_to_num(0.0) * truth).sum() / truth.sum()


def mean_over_classes(value: Tensor, classes: list[int] | None = None) -> Tensor:
    """Mean of a per-class figure over the classes that occur.

    Args:
        value: (C,) float64, NaN where a class does not occur.
        classes: ids to average over (the tail, for instance); None: all.

    Returns:
        Scalar float64; NaN where none of the classes occurs.
    """
    return (value if classes is None else value[classes]).nanmean()


def _where_it_occurs(value: Tensor, truth: Tensor) -> Tensor:
    return value.masked_fill(truth == 0, torch.nan)


class ConfusionMatrix:
    """Sums confusion counts over batches, and over ranks when asked.

    Attributes:
        counts: (C, C) int64; row: truth, column: prediction.
    """

    def __init__(self, num_classes: int, *, device: torch.device | str | None = None) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, pred: Tensor, label: Tensor) -> None:
        """Add predictions and labels, see :func:`confusion_counts`."""
        self.counts += confusion_counts(pred, label, self.num_classes).to(self.counts.device)

    def add(self, other: ConfusionMatrix) -> None:
        """Add another matrix of as many classes."""
        self.counts += other.counts.to(self.counts.device)

    def all_reduce(self) -> None:
        """Replace the counts by their sum over all ranks; every rank must call it, once."""
        self.counts = sum_over_ranks(self.counts)
