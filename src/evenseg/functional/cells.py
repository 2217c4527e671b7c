"""Between the pixels of an image and the cells of a map of logits, as bilinear enlargement places them."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_of_pixel(pixels: int, cells: int, padded: int, *, device: torch.device | None = None) -> Tensor:
    """The nearest cell of each pixel along one side.

    Args:
        pixels: P, of the image.
        cells: of the map that covers the image and what it was padded with.
        padded: pixels of the padded image; its first and last lie on the first and last cell (``align_corners``).

    Returns:
        (P,) int64 in 0..cells-1.
    """
    place = torch.arange(pixels, device=device, dtype=torch.float64) * _step(cells, padded)
    return (place + 0.5).floor().long()


def pixel_of_cell(cells: int, padded: int, *, device: torch.device | None = None) -> Tensor:
    """The nearest pixel of each cell along one side, (cells,) int64 in 0..padded-1; as of ``cell_of_pixel``."""
    step = _step(cells, padded)
    place = (
        torch.arange(cells, device=device, dtype=torch.float64) / step if step else torch.zeros(cells, device=device)
    )
    return (place + 0.5).floor().long().clamp(max=padded - 1)


def to_pixels(cells: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """(B, ..., h, w) of cells to (B, ..., H, W): each pixel has the value of the nearest cell.

    Args:
        cells: of any type; a map of the image's size is returned as it is.
        size: H, W of the image.
        padded: its size as it was padded, which the cells cover.
    """
    if cells.shape[-2:] == size:
        return cells
    row = cell_of_pixel(size[0], cells.shape[-2], padded[0], device=cells.device)
    column = cell_of_pixel(size[1], cells.shape[-1], padded[1], device=cells.device)
    return cells.index_select(-2, row).index_select(-1, column)


def to_cells(pixels: Tensor, cells: tuple[int, int], padded: tuple[int, int], *, outside: float) -> Tensor:
    """(B, ..., H, W) of an image to (B, ..., h, w): each cell has the value of the nearest pixel.

    Args:
        pixels: of any type; a map of the cells' size is returned as it is.
        cells: h, w.
        padded: as of ``to_pixels``.
        outside: the value of cells beyond the image.
    """
    height, width = pixels.shape[-2:]
    if (height, width) == cells:
        return pixels
    row = pixel_of_cell(cells[0], padded[0], device=pixels.device)
    column = pixel_of_cell(cells[1], padded[1], device=pixels.device)
    found = pixels.index_select(-2, row.clamp(max=height - 1)).index_select(-1, column.clamp(max=width - 1))
    inside = (row < height)[:, None] & (column < width)
    return found.where(inside, torch.full((), outside, dtype=found.dtype, device=found.device))


def _step(cells: int, padded: int) -> float:
    return (cells - 1) / (padded - 1) if padded > 1 else 0.0
