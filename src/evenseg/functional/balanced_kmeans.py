"""k-means whose clusters are all of the same size."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from evenseg.functional.balance_costs import block_rows, cost, costs
from evenseg.functional.balance_prices import assign_at, balanced_prices, softened_prices
from evenseg.functional.balance_repair import repaired
from evenseg.functional.kmeans_start import kmeans_plus_plus

Balance: TypeAlias = Literal["hard", "soft", "none"]

START, START_PER_CLUSTER = 8192, 64  # points from which the start and the curvature of the counts are found
SAMPLE, SAMPLE_PER_CLUSTER = 32768, 256  # points that are clustered before all of them are
REFINEMENTS = 5  # most assignments of all points after that
SETTLED = 1e-3  # share of points that still change clusters when the iterations end
PRICE_SWEEPS = 8  # most assignments to find the prices for given centers
UNBALANCED = 5e-4  # share of points that is left to the repair, and a quarter of a point of each cluster
REPAIR_TOLERANCE = 1e-4  # of the sum of squared distances


class Clusters(NamedTuple):
    """Clusters of points.

    centers: (K, D) float32 (float64 if the points are).
    assignment: (N,) int64 in 0..K-1.
    prices: (K,) float32: points go where squared distance from the center and price are least.
    """

    centers: Tensor
    assignment: Tensor
    prices: Tensor


def balanced_kmeans(
    points: Tensor,
    num_clusters: int,
    *,
    generator: torch.Generator,
    iterations: int = 30,
    balance: Balance = "hard",
    strength: float = 0.5,
) -> Clusters:
    """Centers and an assignment with clusters of N / K points, rounded down or up, of small squared distance.

    Alternates the cheapest balanced assignment to the centers, and the means of the clusters; where there are many
    points, first those of a sample. The assignment returned is that to the centers returned: by least squared distance
    and price, except for those points (0.1 % as a rule, more where many points are equal) that had to go elsewhere to
    make the sizes exact. Distances are computed in float32, around the mean of the points.

    Args:
        points: (N, D) real, N >= K.
        num_clusters: K >= 1.
        generator: the same one gives the same clusters, on the same kind of device.
        iterations: most assignments, >= 1; of more than max(32768, 256 K) points first so many of a sample, then up
            to 5 of all. Ends earlier where less than 0.1 % of the points change clusters.
        balance: "none": ordinary k-means, with clusters of any size and prices 0. "soft": between the two, by
            ``strength`` times the prices that balance, without repair.
        strength: of "soft", in [0, 1]; 0 is "none".

    Raises:
        ValueError: points that are no matrix, not finite, or fewer than clusters; iterations below 1; unknown balance;
            strength outside [0, 1].

    Source: the problem is that of Lin, He and Xiao, "Balanced Clustering: A Uniform Model and Fast Algorithm", IJCAI
    2019, which USRN (CVPR 2022, Section 3.2) uses; plain k-means is in its Table 4. The way of solving it is ours.
    """
    _check(points, num_clusters, iterations, balance, strength)
    strength = {"hard": 1.0, "soft": strength, "none": 0.0}[balance]
    exact = balance == "hard"
    normal, mean, scale = _normalized(points)
    if num_clusters in (1, len(points)):
        centers = normal if num_clusters > 1 else normal.mean(dim=0, keepdim=True)
        assignment = torch.arange(len(points), device=points.device) * (num_clusters > 1)
        return Clusters(centers * scale + mean, assignment, normal.new_zeros(num_clusters))
    order = torch.randperm(len(points), generator=generator, device=generator.device).to(points.device)
    start = normal[order[: max(START, START_PER_CLUSTER * num_clusters)]]
    centers = kmeans_plus_plus(start, num_clusters, generator=generator)
    sampled = max(SAMPLE, SAMPLE_PER_CLUSTER * num_clusters)
    if sampled < len(points):
        found = _alternate(normal[order[:sampled]], start, centers, None, iterations, strength, exact)
        found = _alternate(normal, start, found.centers, found.prices, min(iterations, REFINEMENTS), strength, exact)
    else:
        found = _alternate(normal, start, centers, None, iterations, strength, exact)
    return Clusters(found.centers * scale + mean, found.assignment, strength * found.prices * scale**2)


def _check(points: Tensor, num_clusters: int, iterations: int, balance: Balance, strength: float) -> None:
    if points.dim() != 2 or not points.numel() or points.is_complex():
        raise ValueError(f"points must be a matrix of real numbers, not a tensor of shape {tuple(points.shape)}")
    if not 1 <= num_clusters <= len(points):
        raise ValueError(f"{len(points)} points cannot form {num_clusters} clusters that all have points")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    if balance not in get_args(Balance):
        raise ValueError(f"balance must be one of {', '.join(get_args(Balance))}, not {balance!r}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], not {strength}")


def _normalized(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points around 0, of mean square 1, float32: squares neither cancel nor overflow; mean (D,) and scale."""
    wide = points if points.dtype == torch.float64 else points.float()
    mean = wide.mean(dim=0)
    normal = (wide - mean).float()
    largest = normal.abs().amax()
    if not bool(largest.isfinite()):
        raise ValueError("points must be finite")
    scale = largest * (normal / largest.clamp(min=torch.finfo(torch.float32).tiny)).square().mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    return normal.div_(scale), mean, scale


def _alternate(
    points: Tensor,
    start: Tensor,
    centers: Tensor,
    prices: Tensor | None,
    iterations: int,
    strength: float,
    exact: bool,
) -> Clusters:
    """Assignments and means in turns, an assignment first and last, with the prices that balance.

    start: some of the points. strength: with which the prices count. exact: make the sizes so.
    """
    found = _assign(points, start, centers, prices, strength, exact)
    for _ in range(iterations - 1):
        before = found.assignment
        centers = _means(points, before, found.centers)
        found = _assign(points, start, centers, found.prices, strength, exact)
        if int((found.assignment != before).sum()) <= SETTLED * len(points):
            break
    return found


def _assign(
    points: Tensor, start: Tensor, centers: Tensor, prices: Tensor | None, strength: float, exact: bool
) -> Clusters:
    """The cheapest assignment to given centers, as balanced as it has to be. prices: to begin with."""
    blocks = costs(points, centers)
    if strength == 0:
        nothing = centers.new_zeros(len(centers))
        return Clusters(centers, assign_at(blocks, nothing).assignment, nothing)
    some = cost(start, centers)
    if prices is None:
        prices = softened_prices(some)
    priced = balanced_prices(
        blocks, some, prices, sweeps=PRICE_SWEEPS, misplaced=max(UNBALANCED * len(points), len(centers) / 4)
    )
    if not exact:
        return Clusters(centers, assign_at(blocks, strength * priced.prices).assignment, priced.prices)
    distance = float(points.square().sum() + priced.cost)
    assignment, prices = repaired(blocks, priced, tolerance=REPAIR_TOLERANCE * max(distance, 0.0))
    return Clusters(centers, assignment, prices)


def _means(points: Tensor, assignment: Tensor, centers: Tensor) -> Tensor:
    """Means (K, D) of the points of each cluster; those without points keep their centers."""
    total, count = torch.zeros_like(centers), centers.new_zeros(len(centers))
    rows = block_rows(points, len(centers))
    for part, own in zip(torch.split(points, rows), torch.split(assignment, rows), strict=True):
        # a product, since sums by index have no fixed order on a GPU
        member = part.new_zeros(len(part), len(centers)).scatter_(1, own[:, None], 1.0)
        total.addmm_(member.T, part)
        count += member.sum(dim=0)
    return torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], centers)
