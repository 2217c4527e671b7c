"""Prototypes: one direction per class, by which pixels are classified, and which follow the pixels' mean."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks
from evenseg.functional.multi_entropy import multi_entropy_sample

__all__ = [
    "ClassMean",
    "class_means",
    "moved_prototypes",
    "multi_entropy_sample",
    "pairwise_cosines",
    "prototype_logits",
    "simplex",
]

EPSILON = 1e-6  # a feature is no shorter


class ClassMean(NamedTuple):
    """value: (C, d) float32. present: (C,) bool, the classes that have one."""

    value: Tensor
    present: Tensor


def prototype_logits(
    feature: Tensor, prototypes: Tensor, *, temperature: float | Tensor, center: Tensor | None = None
) -> Tensor:
    """Cosine of every pixel's feature and every prototype, divided by the temperature; in float32.

    Args:
        feature: (B, d, h, w), of any length and precision.
        prototypes: (C, d), of any length; taken without gradient.
        temperature: > 0; 1 is the paper's formula as printed, by which no probability exceeds e / (e + (C - 1) / e).
        center: (d,), subtracted of the normalised features and prototypes, which are normalised again; None: nothing.

    Returns:
        (B, C, h, w) float32.

    Source: DeS4 (Ding et al., IJCAI 2023), Eq. 6, which has no temperature.
    """
    prototypes = F.normalize(prototypes.detach().float(), dim=1, eps=EPSILON)
    with torch.autocast(feature.device.type, enabled=False):
        feature = feature.float()
        if center is not None:
            feature = F.normalize(feature, dim=1, eps=EPSILON) - center.float()[:, None, None]
            prototypes = F.normalize(prototypes - center.float(), dim=1, eps=EPSILON)
        # the length is divided out of C planes, not of d
        length = torch.linalg.vector_norm(feature, dim=1, keepdim=True).clamp(min=EPSILON)
        return F.conv2d(feature, prototypes[:, :, None, None]) / (length * temperature)


def simplex(num_classes: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Unit vectors as far apart as possible: all cosines are -1 / (C - 1).

    Args:
        num_classes: C.
        dimension: d >= C.
        generator: of their direction in space.

    Returns:
        (C, d) float32; a single one is a unit vector.

    Raises:
        ValueError: the dimension is too low.
    """
    if dimension < num_classes:
        raise ValueError(f"{num_classes} prototypes at equal angles need at least as many dimensions, not {dimension}")
    rows, _ = torch.linalg.qr(torch.randn(dimension, num_classes, generator=generator, dtype=torch.float64))
    rows = rows.T
    if num_classes > 1:
        rows = rows - rows.mean(dim=0)
    return F.normalize(rows, dim=1).float()


def class_means(
    feature: Tensor, label: Tensor, weight: Tensor, num_classes: int, *, normalize: bool = True
) -> ClassMean:
    """Weighted means of the features of each class over all ranks.

    Args:
        feature: (B, d, h, w), of any precision, taken without gradient.
        label: (B, h, w) int64; values outside 0..C-1 count nowhere.
        weight: (B, h, w) float32 >= 0, of each pixel in the mean of its class; sums to 1 over all ranks.
        num_classes: C.
        normalize: take means of unit vectors, and make unit vectors of the means.

    Source: DeS4, Eq. 12 (GAP); the normalisation is that of Zhou et al., "Rethinking Semantic Segmentation: A Prototype
    View", CVPR 2022.
    """
    feature = feature.detach().float().flatten(2)
    if normalize:
        weight = weight / torch.linalg.vector_norm(feature, dim=1).clamp(min=EPSILON).view_as(weight)
    code = torch.where((label >= 0) & (label < num_classes), label, num_classes).flatten(1)
    of_class = torch.zeros(len(code), num_classes + 1, code.shape[1], device=feature.device)
    of_class = of_class.scatter_(1, code[:, None], weight.flatten(1)[:, None])[:, :num_classes]
    with torch.autocast(feature.device.type, enabled=False):
        total = torch.bmm(of_class, feature.transpose(1, 2)).sum(dim=0)
    mass = of_class.sum(dim=(0, 2))
    both = sum_over_ranks(torch.cat([total, mass[:, None]], dim=1))
    total, present = both[:, :-1], both[:, -1] > 0
    return ClassMean(F.normalize(total, dim=1, eps=1e-12) if normalize else total, present)


def moved_prototypes(
    prototypes: Tensor, mean: ClassMean, momentum: float | Tensor, *, normalize: bool = True
) -> tuple[Tensor, Tensor]:
    """momentum * prototype + (1 - momentum) * mean of its class, normalised.

    Args:
        prototypes: (C, d) float32.
        mean: of each class; one that is absent or not finite leaves its prototype as it is, bit for bit.
        momentum: in [0, 1], or (C,) of each; 1 changes nothing.
        normalize: make unit vectors of the results.

    Returns:
        (C, d) float32, and (C,) bool, which of them have moved.

    Source: DeS4, Eq. 12.
    """
    keep = torch.as_tensor(momentum, dtype=torch.float32, device=prototypes.device).expand(len(prototypes))
    moves = mean.present & (keep < 1) & mean.value.isfinite().all(dim=1)
    moved = keep[:, None] * prototypes + (1 - keep[:, None]) * mean.value
    if normalize:
        moved = F.normalize(moved, dim=1, eps=1e-12)
    return torch.where(moves[:, None], moved, prototypes), moves


def pairwise_cosines(prototypes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """How near to each other prototypes are: near 1 means that they have collapsed.

    Args:
        prototypes: (C, d).
        known: (C,) bool, those that count.

    Returns:
        The mean cosine of all pairs, a scalar, 0 where there is none; and (C,), the largest of each with another, -1
        for those that have none.
    """
    unit = F.normalize(prototypes.float(), dim=1, eps=EPSILON)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = unit @ unit.T
    pair = known[:, None] & known & ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    mean = torch.where(pair, cosine, 0.0).sum() / pair.sum().clamp(min=1)
    return mean, torch.where(pair, cosine, -1.0).amax(dim=1)
