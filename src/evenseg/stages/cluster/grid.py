"""Where the cells of a feature lie on the pixels of its image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """``cells`` cells lie along ``pixels`` pixels: cell i reaches from i * pixels / cells to where the next begins."""

    pixels: int
    cells: int

    def pooled(self, factor: int) -> Grid:
        """The grid whose cells are each as long as ``factor`` of these."""
        return Grid(self.pixels * factor, self.cells)

    def cell_of_pixels(self, length: int) -> np.ndarray:
        """The cell of each of ``length`` pixels, (length,) int64."""
        return np.arange(length) * self.cells // self.pixels

    def centers(self, count: int, length: int) -> np.ndarray:
        """The pixel at the centre of each of ``count`` cells, (count,) int64; the last of ``length`` where it lies
        beyond them."""
        center = (2 * np.arange(count) + 1) * self.pixels // (2 * self.cells)
        return np.minimum(center, length - 1)

    def cell_labels(self, label: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The label of each cell, that of the pixel at its centre: (H, W) to ``shape`` (rows, columns)."""
        rows, columns = (self.centers(count, length) for count, length in zip(shape, label.shape, strict=True))
        cells: np.ndarray = label[np.ix_(rows, columns)]
        return cells

    def cells_of(self, shape: tuple[int, int], columns: int) -> np.ndarray:
        """The row-major position of the cell of each pixel, (H, W) int64, in a feature ``columns`` cells wide."""
        row, column = self.cell_of_pixels(shape[0]), self.cell_of_pixels(shape[1])
        cells: np.ndarray = row[:, None] * columns + column
        return cells
