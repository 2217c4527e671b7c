"""Boxes: random ones, and the pixels inside."""

from __future__ import annotations

import torch
from torch import Tensor


def random_box(
    uniform: Tensor,
    height: int,
    width: int,
    *,
    area: float | Tensor = 0.5,
    aspect: tuple[float, float] | None = None,
    parts: int = 1,
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
        parts: both sides are divided by its square root: so many boxes together cover ``area`` where none overlap.

    Returns:
        (B, 4) int64 on the device of ``uniform``: y0, x0, y1, x1 in pixels, the ends exclusive.

    Source: French et al., "Semi-supervised semantic segmentation needs strong, varied
    perturbations", BMVC 2020, Section 3.3; Yang et al., "Revisiting Weak-to-Strong Consistency in
    Semi-Supervised Semantic Segmentation" (UniMatch), CVPR 2023, ``obtain_cutmix_box`` of its code.
    """
    shape, vertical, horizontal = uniform.double().unbind(dim=1)
    if aspect is None:
        box_height = (height * area**shape * parts**-0.5).round().clamp(min=1)
        box_width = (width * area ** (1.0 - shape) * parts**-0.5).round().clamp(min=1)
    else:
        box_height, box_width = _sides_by_aspect(shape, height, width, area / parts, aspect)
    top = (vertical * (height - box_height + 1)).floor()
    left = (horizontal * (width - box_width + 1)).floor()
    return torch.stack([top, left, top + box_height, left + box_width], dim=1).long()


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


def box_to_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels inside boxes.

    Args:
        boxes: (B, 4) int64, y0, x0, y1, x1, the ends exclusive.
        height, width: image size in pixels.

    Returns:
        (B, 1, H, W) bool on the device of ``boxes``, True inside.
    """
    top, left, bottom, right = boxes[:, :, None].unbind(dim=1)
    row = torch.arange(height, device=boxes.device)
    column = torch.arange(width, device=boxes.device)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
