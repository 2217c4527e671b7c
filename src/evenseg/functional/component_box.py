"""The box around a connected region of one class: what AEL's adaptive CutMix cuts out.

Two ways to find the regions:

* ``exact``, the default for tensors on a CPU: every pixel, by OpenCV. Tensors elsewhere are copied to the
  host, which waits for them.
* ``propagate``, the default elsewhere: every eighth pixel in both directions, by a fixed number of passes of
  tensor operations, without waiting for the device. What is thinner than 8 pixels may be missed, and regions less
  than 8 pixels apart may be joined; else areas are near and boxes within 8 pixels of the exact ones.

Regions are 8-connected in both.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evenseg.functional.boxes import random_box
from evenseg.functional.partners import choose_member

STRIDE = 8
PASSES = 16  # spirals, combs and mazes of 128 x 256 cells take 14 at most, random masks 10

Regions = Literal["exact", "propagate"]


def component_box(
    label: Tensor,
    target_class: Tensor,
    min_area: float,
    *,
    generator: torch.Generator,
    method: Regions | None = None,
) -> Tensor:
    """``component_box_from`` with numbers drawn from ``generator``."""
    uniform = torch.rand(len(label), 4, generator=generator, dtype=torch.float64, device=generator.device)
    return component_box_from(label, target_class, min_area, uniform, method=method)


def component_box_from(
    label: Tensor, target_class: Tensor, min_area: float, uniform: Tensor, *, method: Regions | None = None
) -> Tensor:
    """The bounding box of a connected region of a class in each image, all regions equally probable.

    Where no region is large enough: a box of half of the image's area, of any shape, anywhere.

    Args:
        label: (B, H, W) integers; what is no class (255, say) belongs to no region.
        target_class: (B,) integers, the class of each image's region.
        min_area: in pixels; regions have to be larger than that.
        uniform: (B, 4) numbers in [0, 1): the region; shape, vertical and horizontal position of a random box.
        method: ``exact`` or ``propagate``, see above; None: by the device of ``label``.

    Returns:
        (B, 4) int64 on the device of ``label``: y0, x0, y1, x1, the ends exclusive.

    Raises:
        ValueError: ``method`` is neither.

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning", NeurIPS 2021,
    Section 3.3; ``generate_cutmix`` of its code.
    """
    height, width = label.shape[1:]
    uniform = uniform.to(label.device, non_blocking=True)
    target = target_class.to(label.device, non_blocking=True)
    if method is None:
        method = "exact" if label.device.type == "cpu" else "propagate"
    if method == "exact":
        found = _exact(label == target[:, None, None], min_area, uniform[:, 0])
    elif method == "propagate":
        found = _propagated(label, target, min_area, uniform[:, 0])
    else:
        raise ValueError(f"method must be exact or propagate, not {method!r}")
    return torch.where(found[:, :1] >= 0, found, random_box(uniform[:, 1:], height, width))


def _exact(mask: Tensor, min_area: float, uniform: Tensor) -> Tensor:
    """(B, 4) boxes of regions of (B, H, W) masks; -1 where none is large enough."""
    boxes = np.full((len(mask), 4), -1)
    for box, image, draw in zip(boxes, mask.cpu().numpy(), uniform.cpu().numpy(), strict=True):
        region, row, left, right = _runs(image)
        large = np.flatnonzero(np.bincount(region, right - left) > min_area)
        if len(large):
            mine = region == large[min(int(draw * len(large)), len(large) - 1)]
            box[:] = row[mine].min(), left[mine].min(), row[mine].max() + 1, right[mine].max()
    return torch.from_numpy(boxes).to(mask.device)


def _runs(image: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
    """Unbroken pieces of rows of an (H, W) mask: number of the region, row, first and last (exclusive) column.

    A map has a hundred times fewer runs than pixels, and takes longer to add up than to label.
    """
    height, width = image.shape
    padded = np.zeros((height, width + 2), np.uint8)  # no run goes on in the next row
    padded[:, 1:-1] = image
    flat = padded.ravel()
    change = np.flatnonzero(flat[1:] != flat[:-1])
    first, last = change[::2] + 1, change[1::2]
    regions = cv2.connectedComponents(padded, connectivity=8)[1]
    return regions.ravel()[first], first // (width + 2), first % (width + 2) - 1, last % (width + 2)


def _propagated(label: Tensor, target: Tensor, min_area: float, uniform: Tensor) -> Tensor:
    """The same of (B, H, W) labels, from the centres of cells of 8 x 8 pixels."""
    height, width = label.shape[1:]
    (top, bottom), (left, right) = _cells(height, label.device), _cells(width, label.device)
    centre = label.index_select(1, (top + bottom) // 2).index_select(2, (left + right) // 2)
    inside = centre == target[:, None, None]
    region = _regions(inside)
    area = ((bottom - top)[:, None] * (right - left)).flatten().expand(len(label), -1)
    sums = torch.zeros(len(label), area.shape[1] + 1, dtype=torch.int64, device=label.device)
    large = sums.scatter_add_(1, region, area)[:, 1:] > min_area
    chosen = choose_member(large, uniform)[:, None]
    member = (region == chosen + 1).view_as(inside)
    rows, columns = member.any(dim=2), member.any(dim=1)
    box = torch.stack(
        [
            torch.where(rows, top, height).amin(dim=1),
            torch.where(columns, left, width).amin(dim=1),
            torch.where(rows, bottom, 0).amax(dim=1),
            torch.where(columns, right, 0).amax(dim=1),
        ],
        dim=1,
    )
    return torch.where(chosen >= 0, box, -1)


def _cells(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First and last (exclusive) pixels of the cells of one side; the last cell may be shorter."""
    start = torch.arange(0, length, STRIDE, device=device)
    return start, (start + STRIDE).clamp(max=length)


def _regions(inside: Tensor, *, passes: int = PASSES) -> Tensor:
    """Number the 8-connected regions of (B, h, w) masks.

    Every cell points to a cell of its region with a number at least as large as its own. In each pass it looks
    for a larger number among its neighbours, tells it to the cell it points to, and then points to where that
    one points: so numbers spread by more than doubling distances, and not by one cell a pass.

    Returns:
        (B, h * w) int64: 1 + the largest position (row by row) in the cell's region, 0 outside.

    Source: Zhang, Azad and Hu, "FastSV: a distributed-memory connected component algorithm with fast
    convergence", SIAM PP 2020, Section 3; on a grid the minimum over neighbours is a pooling.
    """
    batch, height, width = inside.shape
    mask = inside.flatten(1)
    position = torch.arange(1, mask.shape[1] + 1, device=inside.device)
    # number 0 is that of everything outside, and points to itself
    pointer = F.pad(torch.where(mask, position, 0), (1, 0))
    for _ in range(passes):
        grid = pointer[:, 1:].view(batch, 1, height, width).float()  # exact below 2^24 cells
        around = torch.where(mask, F.max_pool2d(grid, 3, stride=1, padding=1).view_as(mask).long(), 0)
        around = F.pad(around, (1, 0))
        pointer = torch.maximum(pointer.scatter_reduce(1, pointer, around, "amax"), around)
        pointer = pointer.gather(1, pointer)
    return pointer[:, 1:]
