"""Which of a teacher's predictions are used: thresholds per class from order statistics of the confidence."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 8192
_MILLION = 1_000_000


def class_thresholds(confidence: Tensor, label: Tensor, ratio: float | Tensor, *, num_classes: int) -> Tensor:
    """The confidence that the most confident ``ratio`` of the pixels of each class reach.

    Of a class's n confidences in descending order it is entry min(floor(ratio * n), n - 1), rounded down to the
    edge of its bin: by at most 2.5e-4, and less the closer to 1 (``confidence_histogram``).

    Args:
        confidence: of any shape, in [0, 1].
        label: int64 of that shape; anything outside 0..num_classes-1 is left out.
        ratio: share in [0, 1], to six digits; a number, or (C,) for one per class.
        num_classes: C.

    Returns:
        (C,) float32; +inf for a class that does not occur.

    Source: Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced
    Self-Training", ECCV 2018; C3-SemiSeg, Zhou et al., ICCV 2021, Section 3.4, of one batch.
    """
    return histogram_thresholds(confidence_histogram(confidence, label, num_classes=num_classes), ratio)


def confidence_histogram(confidence: Tensor, label: Tensor, *, num_classes: int, bins: int = BINS) -> Tensor:
    """How many pixels of each class have which confidence; sums of histograms are histograms of everything.

    Bins are equally wide in sqrt(1 - confidence): where a teacher is nearly certain, which is most of the time,
    order statistics differ in the last digits only, and there the bins are as fine as float32.

    Args:
        confidence, label, num_classes: as in ``class_thresholds``.
        bins: number of bins.

    Returns:
        (C, bins) int64, from confidence 0 to 1.
    """
    inside = (label >= 0) & (label < num_classes)
    place = (1 - confidence.detach().float()).clamp_(0, 1).sqrt_().mul_(-bins).add_(bins).long().clamp_(max=bins - 1)
    flat = torch.where(inside, label * bins + place, num_classes * bins).flatten()
    counts = torch.zeros(num_classes * bins + 1, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))
    return counts[:-1].view(num_classes, bins)


def histogram_thresholds(histogram: Tensor, ratio: float | Tensor) -> Tensor:
    """``class_thresholds`` of the (C, bins) histogram of any number of pixels; (C,) float32."""
    bins = histogram.shape[1]
    at_least = histogram.flip(1).cumsum(dim=1).flip(1)  # pixels in this bin and above
    count = at_least[:, 0]
    # in whole millionths: floating point would turn floor(0.7 * 10) into 6
    share = (torch.as_tensor(ratio, device=histogram.device) * _MILLION).round().long()
    entry = torch.minimum(count * share // _MILLION, count - 1)
    place = (at_least > entry[:, None]).sum(dim=1) - 1
    # the lower edge of the bin, and a little below, so that rounding keeps no pixel of the bin away from it
    edge = 1 - ((bins - place) / bins).square() - 3e-7
    return torch.where(count > 0, edge.clamp(min=0), torch.inf).float()
