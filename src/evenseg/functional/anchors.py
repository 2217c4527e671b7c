"""Which pixels are contrasted: a fixed number per class and image, hard ones first among equals."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Anchors(NamedTuple):
    """Chosen positions, (B, R) each. position: int64 in 0..P-1. label: int64, their class, -1 where the row is
    padding, whose position means nothing."""

    position: Tensor
    label: Tensor


def sample_anchors(
    label: Tensor,
    hard: Tensor | None,
    noise: Tensor,
    *,
    num_classes: int,
    quota: int = 20,
    small_groups: str = "strict",
    max_classes: int = 32,
) -> Anchors:
    """At most ``quota`` positions of every class in every image, half of them hard.

    Of a class with both hard and easy positions enough, half of the quota is hard; where one of them is scarce,
    all of it are taken and the other fills up. Within each, the positions of the smallest noise are taken. All
    images and classes at once: one sort of B * P numbers, results of fixed size, nothing is read on the host.

    Args:
        label: (B, P) int64; anything outside 0..num_classes-1 is never chosen.
        hard: (B, P) bool; None: no position counts as hard, the choice is random.
        noise: (B, P) int64 in 0..2^31-1, random.
        num_classes: C.
        quota: n, positions per class and image.
        small_groups: ``strict``: classes with n positions or fewer in an image are left out; ``variable``: all
            their positions are taken.
        max_classes: of one image; where it has more, those with the most positions are taken. Bounds R.

    Returns:
        Rows for each image, R = n * min(C, max_classes), classes that occur first.

    Source: Wang et al., "Exploring Cross-Image Pixel Contrast for Semantic Segmentation", ICCV 2021, Section 3.3
    (Segmentation-Aware Hard Anchor Sampling), as C3-SemiSeg, Zhou et al., ICCV 2021, uses it.
    """
    batch = len(label)
    device = label.device
    inside = (label >= 0) & (label < num_classes)
    easy = torch.ones_like(label) if hard is None else (~hard).long()
    group = torch.where(inside, 2 * label + easy, 2 * num_classes)  # hard, easy of class 0, hard, easy of class 1, ...
    order = (group << 31 | noise).argsort(dim=1)
    counts = torch.zeros(batch, 2 * num_classes + 1, dtype=torch.int64, device=device)
    counts.scatter_add_(1, group, torch.ones_like(group))
    starts = counts.cumsum(dim=1) - counts
    hard_count, easy_count = counts[:, 0:-1:2], counts[:, 1::2]
    hard_start, easy_start = starts[:, 0:-1:2], starts[:, 1::2]
    size = hard_count + easy_count
    taken = size.clamp(max=quota)
    if small_groups == "strict":
        taken = torch.where(size > quota, taken, 0)
    of_hard = torch.minimum(torch.maximum(hard_count.clamp(max=quota // 2), taken - easy_count), taken)

    # the classes that are kept, by the number of their positions; (B, K)
    kept = torch.where(taken > 0, size, 0).topk(min(num_classes, max_classes), dim=1).indices
    taken, of_hard, hard_start, easy_start = (
        value.gather(1, kept).unsqueeze(2) for value in (taken, of_hard, hard_start, easy_start)
    )
    rank = torch.arange(quota, device=device)
    place = torch.where(rank < of_hard, hard_start + rank, easy_start + rank - of_hard)
    chosen = rank < taken
    position = order.gather(1, torch.where(chosen, place, 0).flatten(1))
    return Anchors(position, torch.where(chosen, kept.unsqueeze(2), -1).flatten(1))
