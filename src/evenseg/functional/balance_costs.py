"""What it costs to put points into clusters: squared distances, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Blocks: TypeAlias = Callable[[], Iterator[Tensor]]  # the costs (n, K) of some points after the other, repeatedly

BLOCK, GPU_BLOCK = 1 << 18, 1 << 26  # costs that are looked at together: on a CPU they stay in the cache
STORED = 100_000_000  # costs that are kept at most; more are computed anew each time


def cost(points: Tensor, centers: Tensor) -> Tensor:
    """Squared distances (N, K) of points (N, D) from centers (K, D), each less the squared norm of the point.

    Which is the same for all clusters: no choice depends on it.
    """
    return torch.addmm(centers.square().sum(dim=1), points, centers.T, alpha=-2)


def costs(points: Tensor, centers: Tensor) -> Blocks:
    """The same for blocks of points."""
    parts = torch.split(points, block_rows(points, len(centers)))
    if len(points) * len(centers) > STORED:
        return lambda: (cost(part, centers) for part in parts)
    kept = [cost(part, centers) for part in parts]
    return lambda: iter(kept)


def block_rows(points: Tensor, num_clusters: int) -> int:
    """How many points are looked at together."""
    return max(1024, (BLOCK if points.device.type == "cpu" else GPU_BLOCK) // num_clusters)


def cheapest(total: Tensor) -> Tensor:
    """The column with the least value of each row, the first of several: (n, K) -> (n,) int64."""
    if total.device.type == "cpu":  # several times faster than torch's
        return torch.from_numpy(total.numpy().argmin(axis=1))
    return total.argmin(dim=1)
