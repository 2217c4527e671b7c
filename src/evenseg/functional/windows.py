"""Two overlapping windows of one image, and which cells of them show the same place.

Offsets and sizes are in cells of a grid over the image, so that a cell of one window lies exactly on a cell of the
other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Matches(NamedTuple):
    """Where the P cells of a window lie in another one. cell: (B, P) int64, row-major, any cell where there is none.
    inside: (B, P) bool, whether there is one."""

    cell: Tensor
    inside: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        """(B, ..., h, w) of the other window, at the cells of this one; what is not ``inside`` means nothing."""
        flat = value.flatten(-2)
        between = flat.ndim - 2
        cell = self.cell.view(len(flat), *[1] * between, -1)
        return flat.gather(-1, cell.expand(*flat.shape[:-1], -1)).view(value.shape)


def window_offsets(uniform: Tensor, free: tuple[int, int], reach: tuple[int, int]) -> Tensor:
    """Positions of two windows for each image, independent but for their distance.

    Args:
        uniform: (B, 6) numbers in [0, 1).
        free: how many cells a window may be moved down and to the right.
        reach: largest distance of the two in either direction: what is left of a side is their overlap.

    Returns:
        (2, B, 2) int64 on the device of ``uniform``: row and column of the first and of the second window, in cells.
    """
    base, first, second = uniform.double().view(-1, 3, 2).unbind(dim=1)
    room = torch.tensor(free, device=uniform.device)
    span = torch.minimum(room, torch.tensor(reach, device=uniform.device))
    start = (base * (room - span + 1)).floor()
    return torch.stack([start + (move * (span + 1)).floor() for move in (first, second)]).long()


def cut(value: Tensor, offset: Tensor, size: tuple[int, int]) -> Tensor:
    """One window of every image.

    Args:
        value: (B, ..., H, W).
        offset: (B, 2) int64 on the CPU, row and column in pixels.
        size: height and width.

    Returns:
        (B, ..., h, w).
    """
    height, width = size
    windows = [
        image[..., top : top + height, left : left + width]
        for image, (top, left) in zip(value, offset.tolist(), strict=True)
    ]
    return torch.stack(windows)


def matches(own: Tensor, other: Tensor, size: tuple[int, int]) -> Matches:
    """For every cell of one window the cell of the other that shows the same place.

    Args:
        own, other: (B, 2) int64, offsets of the two.
        size: rows and columns of both.
    """
    shift = own - other
    rows, columns = (torch.arange(side, device=own.device) + shift[:, i, None] for i, side in enumerate(size))
    inside = ((rows >= 0) & (rows < size[0]))[:, :, None] & ((columns >= 0) & (columns < size[1]))[:, None, :]
    cell = rows.clamp(0, size[0] - 1)[:, :, None] * size[1] + columns.clamp(0, size[1] - 1)[:, None, :]
    return Matches(cell.flatten(1), inside.flatten(1))


def cell_means(value: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, H, W) averaged over the cells of a grid, (B, K, *size); repeated where the map is coarser than it."""
    if value.shape[-2] % size[0] == 0 and value.shape[-1] % size[1] == 0:
        return F.avg_pool2d(value, (value.shape[-2] // size[0], value.shape[-1] // size[1]))
    return F.interpolate(value, size=size, mode="area")
