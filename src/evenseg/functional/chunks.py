"""Points that are read piece by piece: from tensors, memory maps, lists, functions and iterators."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows: TypeAlias = Tensor | NDArray[Any]
Chunk: TypeAlias = Rows | tuple[Tensor, Rows]  # points (n, D), or their keys (n,) int64 and points
Chunks: TypeAlias = Rows | Iterable[Chunk] | Callable[[], Iterable[Chunk]]

ELEMENTS = 1 << 20  # of a piece of a tensor or memory map
RELEASED = 32  # pieces of a memory map after which the memory that they take is given back


class Piece(NamedTuple):
    """keys: (n,) int64, None: the points have none. rows: (n, D). first: number of the first row."""

    keys: Tensor | None
    rows: Rows
    first: int

    def points(self, chosen: Tensor | None = None) -> Tensor:
        """The points, or those ``chosen`` (n,) bool, as they are stored; only these are read from a memory map."""
        if isinstance(self.rows, Tensor):
            return self.rows if chosen is None else self.rows[chosen.to(self.rows.device)]
        # a copy: torch warns of arrays that cannot be written to
        return torch.from_numpy(np.array(self.rows if chosen is None else self.rows[chosen.cpu().numpy()]))


def can_be_read_again(chunks: Chunks) -> bool:
    """Whether this is no iterator, which gives everything once."""
    return not isinstance(chunks, Iterator)


def pieces(chunks: Chunks) -> Iterator[Piece]:
    """All points, in one pass.

    Raises:
        ValueError: a chunk is no matrix, or has not as many keys as points.
    """
    if isinstance(chunks, Tensor | np.ndarray):
        yield from _slices(chunks)
        return
    first = 0
    for chunk in chunks() if callable(chunks) else chunks:
        keys, rows = chunk if isinstance(chunk, tuple) else (None, chunk)
        if rows.ndim != 2 or (keys is not None and len(keys) != len(rows)):
            raise ValueError(f"a chunk must be a matrix, with as many keys if any, not of shape {tuple(rows.shape)}")
        yield Piece(keys, rows, first)
        first += len(rows)


def _slices(rows: Rows) -> Iterator[Piece]:
    if rows.ndim != 2:
        raise ValueError(f"points must be a matrix, not of shape {tuple(rows.shape)}")
    size = max(1, ELEMENTS // max(1, rows.shape[1]))
    mapping = _mapping(rows)
    for number, first in enumerate(range(0, len(rows), size)):
        yield Piece(None, rows[first : first + size], first)
        if mapping is not None and number % RELEASED == RELEASED - 1:
            mapping.madvise(mmap.MADV_DONTNEED)  # the pages stay in the system's cache, and are no longer ours


def _mapping(rows: Rows) -> mmap.mmap | None:
    """The file that a read-only memory map shows, where the system can take memory back."""
    if not isinstance(rows, np.memmap) or rows.mode != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base: object = rows
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
