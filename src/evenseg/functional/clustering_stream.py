"""Balanced k-means of more points than fit into memory: of a sample, whose prices all points then correct."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.functional.balance_costs import cheapest, cost
from evenseg.functional.balance_prices import balancing_step
from evenseg.functional.balanced_kmeans import Balance, Clusters, balanced_kmeans
from evenseg.functional.chunks import Chunks, Piece, can_be_read_again, pieces
from evenseg.functional.distributed import gather_over_ranks, sum_over_ranks
from evenseg.functional.pixel_keys import pixel_keys
from evenseg.functional.reservoir import Reservoir, merge, reservoir

EVEN = 0.01  # coefficient of variation of the sizes at which no more is corrected


class StreamClusters(NamedTuple):
    """Clusters of points that are not kept.

    centers: (K, D) float32. prices: (K,) float32: points go where squared distance and price are least.
    sizes: (K,) int64, how many did, of all points; of the sample where these could be read only once.
    """

    centers: Tensor
    prices: Tensor
    sizes: Tensor


def fit_stream(
    chunks: Chunks,
    num_clusters: int,
    *,
    generator: torch.Generator,
    sample: int = 32768,
    corrections: int = 5,
    iterations: int = 30,
    balance: Balance = "hard",
    strength: float = 0.5,
    sharded: bool = False,
) -> StreamClusters:
    """Clusters of nearly equal sizes, in memory for a sample.

    One pass draws a uniform sample, which is clustered. Then all points are counted and the prices corrected, in the
    passes that it takes until the coefficient of variation of the sizes is at most 0.01; the best prices are kept.

    Args:
        chunks: a tensor or NumPy array (N, D), memory maps of any precision among them; or several of them: a list, or
            a function that returns an iterator over them, which is called for each pass. An iterator itself can be read
            only once: nothing is corrected then. A chunk may be a pair of keys (n,) int64 (``pixel_keys``) and points
            (n, D): then the sample, and so the clusters, are the same in any order and division of the points.
        num_clusters: K >= 1.
        generator: of the sample, where the points have no keys, and of the clustering.
        sample: most points in memory, >= K.
        corrections: most corrections, >= 0.
        iterations, balance, strength: as in ``balanced_kmeans``. "soft" and "none" correct nothing.
        sharded: each process gives its own share of the points, with keys, and a generator in the same state; all get
            the same clusters. They must all call this function.

    Raises:
        ValueError: there are fewer points than clusters, chunks are no matrices, or points are not finite.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    drawn = _sample(chunks, sample, seed, sharded)
    fitted = balanced_kmeans(
        drawn.points, num_clusters, generator=generator, iterations=iterations, balance=balance, strength=strength
    )
    best = StreamClusters(
        fitted.centers.float(), fitted.prices, torch.bincount(fitted.assignment, minlength=num_clusters)
    )
    if not can_be_read_again(chunks):
        return best
    best = _counted(chunks, best, sharded)
    if balance != "hard" or num_clusters == 1:
        return best
    offset = best.centers.mean(dim=0)
    some = cost(drawn.points.float() - offset, best.centers - offset)
    damping = 1.0
    for _ in range(corrections):
        if _variation(best.sizes) <= EVEN:
            break
        excess = best.sizes.float() / best.sizes.sum() - 1 / num_clusters
        step = balancing_step(some, best.prices, excess)
        trial = _counted(chunks, best._replace(prices=best.prices + damping * step), sharded)
        if _variation(trial.sizes) < _variation(best.sizes):
            best = trial
        else:
            damping /= 2
    return best


def assign_stream(chunks: Chunks, clusters: StreamClusters | Clusters) -> Iterator[Tensor]:
    """Where squared distance and price are least.

    Args:
        chunks: as in ``fit_stream``; keys are not looked at.
        clusters: centers (K, D) and prices (K,).

    Returns:
        For one chunk after the other (n,) int64 in 0..K-1, on the device of the centers. Of a single tensor or memory
        map, for one piece after the other.

    Raises:
        ValueError: chunks are no matrices, or points are not finite.
    """
    centers = clusters.centers.float()
    offset = centers.mean(dim=0)
    around = centers - offset
    for piece in pieces(chunks):
        points = piece.points().to(centers.device).float() - offset
        total = cost(points, around) + clusters.prices
        own = cheapest(total)
        if not bool(total.gather(1, own[:, None]).sum().isfinite()):
            raise ValueError(f"points must be finite: see those from number {piece.first} on")
        yield own


def _sample(chunks: Chunks, size: int, seed: int, sharded: bool) -> Reservoir:
    """The points with the smallest keys, of all processes if ``sharded``."""
    kept: Reservoir | None = None
    for piece in pieces(chunks):
        keys = _keys(piece, seed, sharded)
        # most of a long stream is passed over without being read
        chosen = (
            keys < kept.keys[-1]
            if kept is not None and len(kept.keys) == size
            else torch.ones_like(keys, dtype=torch.bool)
        )
        part = reservoir(keys[chosen], piece.points(chosen).to(keys.device), size)
        kept = part if kept is None else merge([kept, part], size)
    if sharded:
        kept = merge([part for part in gather_over_ranks(kept) if part is not None], size)
    if kept is None:
        raise ValueError("there are no points to cluster")
    return kept


def _keys(piece: Piece, seed: int, sharded: bool) -> Tensor:
    if piece.keys is not None:
        return piece.keys.cpu()
    if sharded:
        raise ValueError("points that several processes share need keys")
    return pixel_keys("", torch.arange(piece.first, piece.first + len(piece.rows)), seed=seed)


def _counted(chunks: Chunks, clusters: StreamClusters, sharded: bool) -> StreamClusters:
    """With the sizes that all points make."""
    sizes = torch.zeros_like(clusters.sizes)
    for own in assign_stream(chunks, clusters):
        sizes += torch.bincount(own, minlength=len(sizes))
    return clusters._replace(sizes=sum_over_ranks(sizes) if sharded else sizes)


def _variation(sizes: Tensor) -> float:
    return float(sizes.double().std(correction=0) / sizes.double().mean())
