"""Masks that say which pixels of an image are replaced by those of another."""

from __future__ import annotations

import torch
from torch import Tensor


def box_mask(
    uniform: Tensor,
    height: int,
    width: int,
    *,
    area: float | Tensor = 0.5,
    aspect: tuple[float, float] | None = None,
) -> Tensor:
    """Boxes of a given area and random shape, one per row of random numbers, anywhere inside the image.

    Without ``aspect``, height is H * area^r and width W * area^(1 - r) with r uniform: any shape from
    the full height to the full width (CutMix-Seg). With it, height / width in pixels lies in that
    range: drawn uniformly and, with the position, drawn again until the box is inside (UniMatch).

    Args:
        uniform: (B, 3) numbers in [0, 1): shape, vertical and horizontal position.
        height, width: image size in pixels.
        area: share of the image, in (0, 1]; a number, or (B,) for one per box.
        aspect: smallest and largest height / width, > 0.

    Returns:
        (B, 1, H, W) bool on the device of ``uniform``, True inside the box.

    Source: French et al., "Semi-supervised semantic segmentation needs strong, varied
    perturbations", BMVC 2020, Section 3.3; Yang et al., "Revisiting Weak-to-Strong Consistency in
    Semi-Supervised Semantic Segmentation" (UniMatch), CVPR 2023, ``obtain_cutmix_box`` of its code.
    """
    shape, vertical, horizontal = uniform.double().unbind(dim=1)
    if aspect is None:
        box_height = (height * area**shape).round().clamp(min=1)
        box_width = (width * area ** (1.0 - shape)).round().clamp(min=1)
    else:
        box_height, box_width = _sides_by_aspect(shape, height, width, area, aspect)
    top = (vertical * (height - box_height + 1)).floor()
    left = (horizontal * (width - box_width + 1)).floor()
    row = torch.arange(height, device=uniform.device).double()
    column = torch.arange(width, device=uniform.device).double()
    inside_rows = (row >= top[:, None]) & (row < (top + box_height)[:, None])
    inside_columns = (column >= left[:, None]) & (column < (left + box_width)[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)


def _sides_by_aspect(
    shape: Tensor, height: int, width: int, area: float | Tensor, aspect: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """(B,) heights and widths: the shape that drawing shape and position until both fit ends with.

    A shape is then kept in proportion to the number of positions it fits in, so that one number
    picks it from the cumulated positions of a grid of shapes, and nothing has to be drawn twice.
    """
    ratio = torch.linspace(*aspect, 256, dtype=shape.dtype, device=shape.device)
    pixels = (area * torch.full_like(shape, height * width))[:, None]
    box_height, box_width = (pixels * ratio).sqrt().floor(), (pixels / ratio).sqrt().floor()
    positions = (height - box_height + 1).clamp(min=0) * (width - box_width + 1).clamp(min=0)
    cumulated = positions.cumsum(dim=1)
    chosen = torch.searchsorted(cumulated, shape[:, None] * cumulated[:, -1:], right=True).clamp(max=len(ratio) - 1)
    box_height, box_width = (side.gather(1, chosen).squeeze(1) for side in (box_height, box_width))
    return box_height.clamp(1, height), box_width.clamp(1, width)  # cut where no shape of this area fits


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
