"""Weights that turn a loss to the pixels a network is unsure of, or to all classes alike."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from evenseg.functional.class_confidence import pixels_per_class
from evenseg.functional.distributed import sum_over_ranks, world_size

WeightSource = Literal["max", "gt"]
UNDERFLOW = 1e-8  # a sum of weights below is none


def confidence_weight(
    logits: Tensor,
    pixel: Tensor,
    label: Tensor,
    *,
    gamma: float = 2.0,
    source: WeightSource = "max",
    normalize: Literal["image", "batch"] = "image",
    ignore_index: int = 255,
) -> Tensor:
    """(1 - p)^gamma of every valid pixel over the sum of the same; float32, without gradient.

    Args:
        logits: (B, C, H, W).
        pixel: (B, H, W) cross-entropy of ``label`` under them.
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index``, where the weight is 0.
        gamma: >= 0; at 0 all weights are equal.
        source: p is the largest probability (``max``, as printed), or that of the label (``gt``).
        normalize: sums are those of an ``image``, or of the global ``batch``.

    Returns:
        (B, H, W), sums to 1 over each image with a valid pixel, or over the batch. Equal weights where all are as
        good as 0.

    Source: DeS4 (Ding et al., IJCAI 2023), Eq. 7.
    """
    valid = label != ignore_index
    logits, negative = logits.detach().float(), pixel.detach().float()
    if source == "max":
        # log of the largest probability, from that of the label without a second softmax
        of_label = logits.gather(1, torch.where(valid, label, 0)[:, None]).squeeze(1)
        negative = negative - (logits.amax(dim=1) - of_label)
    weight = (-torch.expm1(-negative)).clamp(0, 1).pow(gamma) * valid
    size = valid.flatten(1).sum(dim=1).float()
    total = weight.flatten(1).sum(dim=1)
    if normalize == "batch":
        total, size = sum_over_ranks(torch.stack([total.sum(), size.sum()]))
        total, size = total.expand(len(label)), size.expand(len(label))
    total, size = total[:, None, None], size[:, None, None]
    return torch.where(total < UNDERFLOW, valid / size.clamp(min=1), weight / total.clamp(min=1e-12))


def class_mean_loss(pixel: Tensor, label: Tensor, weight: Tensor, num_classes: int) -> Tensor:
    """The mean over classes of the mean of the pixels of each, over the global batch.

    Args:
        pixel: (B, H, W) losses.
        label: (B, H, W) int64; values outside 0..C-1 count nowhere.
        weight: (B, H, W) >= 0, factors of the losses alone.
        num_classes: C.

    Returns:
        Scalar; a connected zero where no class occurs.

    Source: DeS4, Eq. 6 read as an expectation over classes.
    """
    code = torch.where((label >= 0) & (label < num_classes), label, num_classes)
    count = sum_over_ranks(pixels_per_class(code, num_classes).sum(dim=0).float())
    share = world_size() * (count > 0) / (count.clamp(min=1) * (count > 0).sum().clamp(min=1))
    share = torch.cat([share, share.new_zeros(1)])
    return (pixel * (weight.detach() * share[code])).sum()
