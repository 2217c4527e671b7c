"""Labeled and unlabeled images mixed with each other: who meets whom, and the swap that undoes itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.planes import copy_rows, layout_of

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


class Places(NamedTuple):
    """Partners and boxes as numbers, by which a CPU need not look into tensors.

    partner: of each image. corners: y0, x0, y1, x1 of its box, the ends exclusive, at the ``size`` (H, W).
    """

    partner: list[int]
    corners: list[list[int]]
    size: tuple[int, int]

    def boxes(self, size: tuple[int, int]) -> list[tuple[slice, slice]]:
        """Rows and columns of the boxes at another size: those whose nearest one at (H, W) lies inside."""
        (height, width), (rows, columns) = self.size, size
        return [
            (
                slice(-(-y0 * rows // height), -(-y1 * rows // height)),
                slice(-(-x0 * columns // width), -(-x1 * columns // width)),
            )
            for y0, x0, y1, x1 in self.corners
        ]


def swap(value: Tensor, partner: Tensor, mask: Tensor, *, places: Places | None = None, planes: bool = False) -> Tensor:
    """Exchanges the masked pixels of partners, and, called again, puts them back, bit for bit.

    Every pixel of every image occurs exactly once in the result, so that sums over pixels stay what they are, and
    the gradient of a swap is the swap of the gradient.

    Args:
        value: (B, K, H, W) or (B, H, W), of any type.
        partner: (B,) int64, an involution.
        mask: (B, 1, H', W') bool, the same for both partners; resized to H x W (nearest) where it differs.
        places: partner and mask once more, where the masks are boxes; on a CPU (B, K, H, W) are then exchanged in half
            of the time.
        planes: makes the result ``as_planes`` on the way, at no further cost on a CPU.

    Source: C3-SemiSeg, Zhou et al., ICCV 2021, Eq. 4, for both images of a pair.
    """
    if mask.shape[-2:] != value.shape[-2:]:
        mask = F.interpolate(mask.float(), size=value.shape[-2:], mode="nearest").bool()
    if value.dim() == 3 or value.device.type != "cpu":
        places = None
    swapped: Tensor = _Swap.apply(value, partner, mask if value.dim() == 4 else mask.squeeze(1), places, planes)
    return swapped


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, partner: Tensor, mask: Tensor, places: Places | None, planes: bool) -> Tensor:
        ctx.save_for_backward(partner, mask)
        ctx.places, ctx.dtype, ctx.layout = places, value.dtype, layout_of(value)
        if planes:
            return _exchange(value, partner, mask, places, torch.float32, torch.contiguous_format)
        return _exchange(value, partner, mask, places, ctx.dtype, ctx.layout)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        partner, mask = ctx.saved_tensors
        gradient = gradients[0].to(ctx.dtype)
        return _exchange(gradient, partner, mask, ctx.places, ctx.dtype, ctx.layout), None, None, None, None


def _exchange(
    value: Tensor,
    partner: Tensor,
    mask: Tensor,
    places: Places | None,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Tensor:
    """Boxes are copied; where there are none, the partners' images are gathered first."""
    if places is None:
        exchanged = torch.where(mask, value[partner], value)
        return exchanged.to(dtype, memory_format=layout) if value.dim() == 4 else exchanged
    copy = torch.empty(value.shape, dtype=dtype, memory_format=layout)
    copy_rows(copy, value)
    boxes = places.boxes((value.shape[2], value.shape[3]))
    for image, other, (rows, columns) in zip(copy, places.partner, boxes, strict=True):
        copy_rows(image[:, rows, columns], value[other, :, rows, columns])
    return copy
