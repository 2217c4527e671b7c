"""k-means++: centers to start from that are far apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kmeans_plus_plus(points: Tensor, num_clusters: int, *, generator: torch.Generator) -> Tensor:
    """Points drawn one after the other, with probability proportional to the squared distance from those drawn.

    Of a few candidates each time that is taken which leaves the smallest sum of squared distances. On the CPU, where
    sums have one order, so that the same generator draws the same points.

    Args:
        points: (N, D) float32, a sample of at most some ten thousand.
        num_clusters: K >= 1; where there are fewer distinct points, some are drawn again.

    Returns:
        (K, D) float32 on the device of ``points``.

    Source: Arthur and Vassilvitskii, "k-means++: The advantages of careful seeding", SODA 2007; its greedy form.
    """
    host = points.cpu()
    candidates = 2 + int(math.log(num_clusters))
    draws = torch.rand(num_clusters, candidates, dtype=torch.float64, generator=generator, device=generator.device)
    draws = draws.cpu()
    norm = host.square().sum(dim=1)
    first = int(draws[0, 0] * len(host))
    chosen = [first]
    nearest = _distances(host, norm, torch.tensor([first]))[0]
    for draw in draws[1:]:
        mass = nearest.double().cumsum(0)
        # the first point whose sum is above: never one at distance 0, unless all are
        index = torch.searchsorted(mass, draw * mass[-1], right=True).clamp_(max=len(host) - 1)
        remaining = torch.minimum(nearest, _distances(host, norm, index))
        best = int(remaining.sum(dim=1).argmin())
        chosen.append(int(index[best]))
        nearest = remaining[best]
    return points[torch.tensor(chosen, device=points.device)]


def _distances(points: Tensor, norm: Tensor, index: Tensor) -> Tensor:
    """Squared distances of all points (N, D) from those at ``index`` (M,): (M, N)."""
    distance = torch.addmm(norm, points[index], points.T, alpha=-2).add_(norm[index, None]).clamp_(min=0)
    distance[torch.arange(len(index)), index] = 0.0  # exactly, so that no point is drawn twice
    return distance
