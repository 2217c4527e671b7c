"""Which pixels are anchors and negatives of each class, and the contrast of anchors with one positive and negatives.

All classes at once, in sets of fixed size with marks for what is padding: nothing waits for the number of pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.distributed import concatenate_over_ranks, sum_over_ranks, world_size

NEVER = 1 << 31  # more than any noise


class Chosen(NamedTuple):
    """Pixels of each class, padded. position: (..., Q) int64, where in the row of pixels. noise: (..., Q) int64, what
    they were chosen by. used: (..., Q) bool, False for padding."""

    position: Tensor
    noise: Tensor
    used: Tensor


def choose_anchors(group: Tensor, noise: Tensor, *, num_classes: int, quota: int) -> Chosen:
    """Those ``quota`` pixels of each class with the smallest noise, of all processes.

    Args:
        group: (N,) int64, the class of the pixels of this process; anything outside 0..num_classes-1 is not chosen.
        noise: (N,) int64 in 0..2^31-1, random.
        num_classes: C.
        quota: Q.

    Returns:
        (C, Q) each: the pixels of this process among them.
    """
    inside = (group >= 0) & (group < num_classes)
    group = group.where(inside, num_classes)
    order = (group << 31 | noise).argsort()
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=group.device)
    counts.scatter_add_(0, group, torch.ones_like(group))
    rank = torch.arange(quota, device=group.device)
    used = rank < counts[:-1, None]
    place = (counts.cumsum(0) - counts)[:-1, None] + rank
    position = order[place.where(used, 0)]
    found = noise[position].where(used, NEVER)
    if world_size() > 1:
        last = concatenate_over_ranks(found.T).T.topk(quota, dim=1, largest=False).values.amax(dim=1, keepdim=True)
        used = used & (found <= last)
    return Chosen(position, found, used)


def choose_negatives(candidate: Tensor, noise: Tensor, *, quota: int) -> Chosen:
    """At most ``quota`` candidates of each class in each image, those of the smallest noise.

    Args:
        candidate: (B, C, P) bool.
        noise: (B, P) int64 in 0..2^31-1, random.
        quota: Q.

    Returns:
        (B, C, min(Q, P)) each.
    """
    found = noise.unsqueeze(1).masked_fill(~candidate, NEVER).topk(min(quota, noise.shape[1]), dim=2, largest=False)
    return Chosen(found.indices, found.values, found.values < NEVER)


def unlikely_classes(logits: Tensor, low: int, high: int) -> Tensor:
    """Classes that come neither among the ``low`` likeliest of a pixel nor behind the first ``high``.

    Args:
        logits: (B, C, P).

    Returns:
        (B, C, P) bool. Classes as likely as the last of the first ``low`` count as one of them.

    Source: Wang et al., "Semi-Supervised Semantic Segmentation Using Unreliable Pseudo-Labels" (U2PL), CVPR 2022,
    Section 3.3, negatives of unlabeled pixels.
    """
    found = ~likeliest_classes(logits, low)
    return found & likeliest_classes(logits, high) if high < logits.shape[1] else found


def likeliest_classes(logits: Tensor, number: int) -> Tensor:
    """(B, C, P) bool: the ``number`` likeliest classes of each pixel, and those as likely as the last of them."""
    classes = logits.shape[1]
    if number >= classes:
        return torch.ones_like(logits, dtype=torch.bool)
    if number <= classes // 2:
        return logits >= logits.topk(number, dim=1).values[:, -1:]
    return logits > logits.topk(classes - number, dim=1, largest=False).values[:, -1:]


def class_means(value: Tensor, group: Tensor, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean of the pixels of each class, of all processes.

    Args:
        value: (N, D).
        group: (N,) int64; anything outside 0..num_classes-1 is left out.

    Returns:
        (C, D) float32, zero where there is none, and (C,) float32, their number.
    """
    member = (group == torch.arange(num_classes, device=group.device)[:, None]).float()
    with torch.autocast(value.device.type, enabled=False):
        sums = torch.cat([member @ value.detach().float(), member.sum(dim=1, keepdim=True)], dim=1)
    sums = sum_over_ranks(sums)
    count = sums[:, -1]
    return sums[:, :-1] / count.clamp(min=1)[:, None], count


def negative_contrast(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    pick: Tensor,
    share: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """Sum over anchors of share * -log(e(positive) / (e(positive) + sum over their negatives of e(negative))).

    e is exp(cosine / temperature). Computed in float32.

    Args:
        anchor: (C, Q, D) with gradient.
        positive: (C, D), one for all anchors of a class.
        negative: (C, M, D) of unit length, those of a class that its anchors pick from.
        pick: (C, Q, n) int64 in 0..M-1, the negatives of each anchor.
        share: (C, Q) >= 0, weight of an anchor in the sum.
        temperature: of the similarity.

    Returns:
        Scalar, connected to the graph.

    Source: Wang et al., U2PL, CVPR 2022, the contrastive loss of Section 3.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, positive = F.normalize(anchor.float(), dim=2), F.normalize(positive.float(), dim=1)
        attracted = (anchor * positive.unsqueeze(1)).sum(dim=2, keepdim=True) / temperature
        repelled = (anchor @ negative.mT).gather(2, pick) / temperature
        loss = torch.cat([attracted, repelled], dim=2).logsumexp(dim=2) - attracted.squeeze(2)
        return (loss * share).sum()
