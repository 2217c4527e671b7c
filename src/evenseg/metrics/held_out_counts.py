"""How often pseudo-labels are right at each confidence, counted image by image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.types import PseudoTarget

# Between these lie the bins of confidence: narrow near 1, where the confidence of most pseudo-labels is.
BIN_EDGES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
BINS = len(BIN_EDGES) + 1


class HeldOutCounts(NamedTuple):
    """Pixels of N images, int64.

    kept: (N, C, K) pseudo-labels by class and bin of confidence. right: (N, C, K) those of them that are right.
    true: (N, C) pixels of each true class. Where the truth is given, pixels without it do not count at all;
    where it is not, ``right`` and ``true`` are 0.
    """

    kept: Tensor
    right: Tensor
    true: Tensor


def held_out_counts(target: PseudoTarget, truth: Tensor | None = None) -> HeldOutCounts:
    """The counts of each image of a batch.

    Args:
        target: the pseudo-labels, (B, C, H, W); pixels of weight 0 are none.
        truth: (B, H, W) int64; values of C and above, and below 0, are unknown.
    """
    batch, classes = target.prob.shape[:2]
    confidence, label = target.hard()
    valid = torch.ones_like(label, dtype=torch.bool) if target.valid is None else target.valid
    if truth is not None:
        valid = valid & (truth >= 0) & (truth < classes)
    kept = valid & (target.weight > 0)
    right = torch.zeros_like(kept) if truth is None else kept & (truth == label)
    true = torch.zeros_like(kept) if truth is None else valid
    edges = torch.tensor(BIN_EDGES, device=confidence.device)
    image = torch.arange(batch, device=label.device).view(-1, 1, 1)
    place = (image * classes + label) * BINS + torch.bucketize(confidence, edges, right=True)
    of_class = image * classes + (label if truth is None else truth)
    return HeldOutCounts(
        torch.bincount(place[kept], minlength=batch * classes * BINS).view(batch, classes, BINS),
        torch.bincount(place[right], minlength=batch * classes * BINS).view(batch, classes, BINS),
        torch.bincount(of_class[true], minlength=batch * classes).view(batch, classes),
    )
