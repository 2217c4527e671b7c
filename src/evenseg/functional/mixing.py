"""Masks that say which pixels of an image are replaced by those of another."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.boxes import box_to_mask, random_box
from evenseg.functional.component_box import component_box, component_box_from

__all__ = [
    "box_mask",
    "box_to_mask",
    "choose_half_of_classes",
    "class_mask",
    "component_box",
    "component_box_from",
    "cutmix_mask",
    "neighbour",
    "random_box",
]


def box_mask(
    uniform: Tensor,
    height: int,
    width: int,
    *,
    area: float | Tensor = 0.5,
    aspect: tuple[float, float] | None = None,
    parts: int = 1,
) -> Tensor:
    """The pixels inside of random boxes, (B, 1, H, W) bool; arguments as of ``random_box``."""
    return box_to_mask(random_box(uniform, height, width, area=area, aspect=aspect, parts=parts), height, width)


def cutmix_mask(batch: int, height: int, width: int, *, generator: torch.Generator, area: float = 0.5) -> Tensor:
    """One random box per image, (batch, 1, H, W) bool, True inside; see ``box_mask``."""
    uniform = torch.rand(batch, 3, generator=generator, dtype=torch.float64, device=generator.device)
    return box_mask(uniform, height, width, area=area)


def class_mask(label: Tensor, classes: Tensor) -> Tensor:
    """Pixels of chosen classes (ClassMix, Copy-Paste).

    Args:
        label: (B, H, W) integer; anything outside 0..C-1 (255, say) is never chosen.
        classes: (B, C) bool, the chosen classes of each image.

    Returns:
        (B, 1, H, W) bool.
    """
    num_classes = classes.shape[1]
    inside = (label >= 0) & (label < num_classes)
    flat = torch.where(inside, label, 0).flatten(1).long()
    return (classes.gather(1, flat).view(label.shape) & inside).unsqueeze(1)


def choose_half_of_classes(label: Tensor, valid: Tensor, key: Tensor) -> Tensor:
    """floor(n / 2) of the n classes that occur in each image, the ones with the smallest keys.

    Args:
        label: (B, H, W) int64 in 0..C-1.
        valid: (B, H, W) bool; other pixels are not looked at.
        key: (B, C) random numbers in [0, 1).

    Returns:
        (B, C) bool.

    Source: Olsson et al., "ClassMix", WACV 2021, Algorithm 1.
    """
    num_classes = key.shape[1]
    flat = torch.where(valid, label, num_classes).flatten(1)
    present = torch.zeros(len(key), num_classes + 1, dtype=torch.bool, device=label.device)
    present = present.scatter_(1, flat, True)[:, :num_classes]
    keyed = torch.where(present, key.to(label.device), 2.0)  # absent classes rank last
    rank = keyed.argsort(dim=1).argsort(dim=1)
    return rank < present.sum(dim=1, keepdim=True) // 2


def neighbour(batch: int) -> Tensor:
    """Mixing partners: slot 2k with 2k + 1; the last of an odd batch takes the one before it.

    Returns:
        (batch,) int64 indices; a batch of one is its own partner.
    """
    partner = torch.arange(batch) ^ 1
    return partner.where(partner < batch, torch.tensor(max(batch - 2, 0)))
