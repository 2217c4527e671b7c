"""The supervised losses a method can be given: cross-entropy, OHEM, focal, class-weighted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.functional import losses
from evenseg.functional.class_statistics import inverse_frequency_weight
from evenseg.types import Count, Fraction, NonNegative, ignore_label


class PixelLoss(nn.Module):
    """A loss made of the cross-entropy of single pixels, which other parts of a step can then use as well.

    A loss of one's own need not be one: any module from logits and labels to a scalar will do.
    """

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of (B, C, H, W) logits and (B, H, W) labels."""
        ignore = ignore_label(logits.shape[1])
        return self.reduce(losses.pixel_cross_entropy(logits, label, ignore_index=ignore), label, ignore)

    def reduce(self, pixel: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """Scalar loss of (B, H, W) cross-entropies, 0 where the label is ``ignore_index``."""
        raise NotImplementedError


class CrossEntropy(PixelLoss):
    """Mean cross-entropy over labeled pixels."""

    def reduce(self, pixel: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """See ``PixelLoss``."""
        return losses.pixel_mean(pixel, label != ignore_index)


class OHEM(PixelLoss):
    """Cross-entropy over the hard pixels, see ``losses.ohem_cross_entropy``.

    Args:
        threshold: pixels whose label has at most this probability are hard.
        min_kept: pixels kept at least in the global batch (in each micro-batch, where there are several),
            shared evenly among its images.
    """

    def __init__(self, *, threshold: Fraction = 0.7, min_kept: Count = 100_000) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_kept = min_kept

    def reduce(self, pixel: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """See ``PixelLoss``."""
        return losses.ohem_mean(pixel, label != ignore_index, threshold=self.threshold, min_kept=self.min_kept)


class Focal(PixelLoss):
    """Cross-entropy that fades where the label is already probable.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Args:
        gamma: how fast it fades; 0 is cross-entropy.
    """

    def __init__(self, *, gamma: NonNegative = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def reduce(self, pixel: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """See ``PixelLoss``."""
        return losses.focal_mean(pixel, label != ignore_index, gamma=self.gamma)


class ClassWeighted(PixelLoss):
    """Cross-entropy weighted by class, so that rare classes count more.

    Each pixel has the weight of its class; the sum is divided by the sum of weights.

    Args:
        power: weights are (mean frequency / frequency)^power of the labeled pixels; 0 is plain
            cross-entropy, 1 gives every class the same total weight.
        weights: one weight per class instead, in the order of the classes; not all 0.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    def __init__(
        self,
        *,
        power: Fraction = 0.5,
        weights: list[NonNegative] | None = None,
        class_frequency: Tensor | None = None,
    ) -> None:
        super().__init__()
        if weights is not None:
            if class_frequency is not None and len(weights) != len(class_frequency):
                raise ValueError(f"{len(weights)} weights for {len(class_frequency)} classes")
            weight = torch.tensor(weights, dtype=torch.float32)
            if not (weight.isfinite().all() and (weight >= 0).all() and (weight > 0).any()):
                raise ValueError(f"weights must be finite and at least 0, and one of them above 0, not {weights}")
        elif class_frequency is not None:
            weight = inverse_frequency_weight(class_frequency, power=power)
        else:
            raise ValueError("class weights need `weights` or `class_frequency`")
        self.class_weight: Tensor
        self.register_buffer("class_weight", weight)

    def reduce(self, pixel: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        """See ``PixelLoss``."""
        valid = label != ignore_index
        weight = self.class_weight[torch.where(valid, label, 0)]
        return losses.weighted_mean(pixel, weight, valid, normalize="batch")
