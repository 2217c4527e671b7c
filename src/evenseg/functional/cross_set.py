"""Labeled and unlabeled images mixed with each other: who meets whom, and the swap that undoes itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.planes import copy_rows, layout_of

Box = tuple[slice, slice]  # of rows and columns
NOTHING: Box = (slice(0), slice(0))

# Partners in a group of two labeled (0, 1) and two unlabeled images (2, 3): its three pairings.
_INTRA, _ACROSS, _CROSSED = [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]
PAIRINGS = {"random": (_INTRA, _ACROSS, _CROSSED), "cross_only": (_ACROSS, _CROSSED), "intra": (_INTRA,)}


def cross_set_partner(uniform: Tensor, *, pairing: str = "random") -> Tensor:
    """Who is mixed with whom among G groups of two labeled and two unlabeled images.

    Args:
        uniform: (G,) numbers in [0, 1).
        pairing: ``random``: each of a group's three pairings with equal chance, so that an image meets one of the
            other set in two of three; ``cross_only``: one of the other set always; ``intra``: one of its own set.

    Returns:
        (4 G,) int64 indices into the 2 G labeled images followed by the 2 G unlabeled ones; an involution without
        fixed points.
    """
    groups, table = len(uniform), torch.tensor(PAIRINGS[pairing])
    within = table[(uniform * len(table)).long().clamp(max=len(table) - 1).to(table.device)]  # (G, 4)
    # from a place in the group to one in the batch: labeled images 2g, 2g + 1, unlabeled ones 2G + 2g, 2G + 2g + 1
    offset = torch.tensor([0, 1, 2 * groups, 2 * groups + 1])
    partner = offset[within] + 2 * torch.arange(groups)[:, None]
    return torch.cat([partner[:, :2].flatten(), partner[:, 2:].flatten()])


def swap(value: Tensor, partner: Tensor, mask: Tensor, *, planes: bool = False) -> Tensor:
    """Exchanges the masked pixels of partners, and, called again, puts them back, bit for bit.

    Every pixel of every image occurs exactly once in the result, so that sums over pixels stay what they are, and
    the gradient of a swap is the swap of the gradient.

    Args:
        value: (B, K, H, W) or (B, H, W), of any type.
        partner: (B,) int64, an involution.
        mask: (B, 1, H', W') bool, the same for both partners; resized to H x W (nearest) where it differs.
        planes: makes the result ``as_planes`` on the way, at no further cost on a CPU.

    Source: C3-SemiSeg, Zhou et al., ICCV 2021, Eq. 4, for both images of a pair.
    """
    if mask.shape[-2:] != value.shape[-2:]:
        mask = F.interpolate(mask.float(), size=value.shape[-2:], mode="nearest").bool()
    swapped: Tensor = _Swap.apply(value, partner, mask if value.dim() == 4 else mask.squeeze(1), planes)
    return swapped


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, partner: Tensor, mask: Tensor, planes: bool) -> Tensor:
        ctx.save_for_backward(partner, mask)
        ctx.boxes = boxes = _boxes(mask) if value.dim() == 4 and value.device.type == "cpu" else None
        ctx.dtype, ctx.layout = value.dtype, layout_of(value)
        if planes:
            return _exchange(value, partner, mask, boxes, torch.float32, torch.contiguous_format)
        return _exchange(value, partner, mask, boxes, ctx.dtype, ctx.layout)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        partner, mask = ctx.saved_tensors
        gradient = gradients[0].to(ctx.dtype)
        return _exchange(gradient, partner, mask, ctx.boxes, ctx.dtype, ctx.layout), None, None, None


def _exchange(
    value: Tensor,
    partner: Tensor,
    mask: Tensor,
    boxes: list[Box] | None,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Tensor:
    """Boxes are copied, on a CPU in half of the time of gathering the partners' images first."""
    if boxes is None:
        exchanged = torch.where(mask, value[partner], value)
        return exchanged.to(dtype, memory_format=layout) if value.dim() == 4 else exchanged
    copy = torch.empty(value.shape, dtype=dtype, memory_format=layout)
    copy_rows(copy, value)
    for image, other, (rows, columns) in zip(copy, partner.tolist(), boxes, strict=True):
        copy_rows(image[:, rows, columns], value[other, :, rows, columns])
    return copy


def _boxes(mask: Tensor) -> list[Box] | None:
    """Rows and columns of the masked pixels of each image, (B, 1, H, W); None if those of one are not a box."""
    found = []
    for one in mask.squeeze(1):
        rows, columns = (one.any(dim=dim).nonzero() for dim in (1, 0))
        box = (
            (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
            if len(rows)
            else NOTHING
        )
        if not one[box].all() or len(rows) * len(columns) != one[box].numel():
            return None
        found.append(box)
    return found
