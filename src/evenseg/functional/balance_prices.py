"""Prices of clusters under which each point, going where distance and price are least, fills all clusters equally.

The prices solve the dual of the assignment with equal sizes: maximise the sum over points of the least cost and price,
less size times price. Found in two steps: from assignments that are softened less and less, on a sample (Sinkhorn);
then on all points from the counts of the hard assignment, by Newton's steps whose curvature is that of a softened one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.functional.balance_costs import Blocks, cheapest

LEVELS, SWEEPS, COOLING = 8, 8, 0.4  # of softness
SOFTNESS = 0.1  # of the curvature, in mean differences between the least and the second least cost
FAR = 0.05  # share of misplaced points from which on prices are sought anew
SMALL = 1e-12  # squared distance, so that points that are all equal do no harm
RIDGE = 1e-3  # of the mean curvature, since adding one number to all prices changes nothing


class Priced(NamedTuple):
    """What comes of prices.

    prices: (K,) float32. assignment: (N,) int64, where cost and price are least. sizes: (K,) int64, of the assignment.
    cost: scalar, sum of the costs of the assignment, without prices.
    """

    prices: Tensor
    assignment: Tensor
    sizes: Tensor
    cost: Tensor


def softened_prices(cost: Tensor) -> Tensor:
    """First prices, from costs of a sample: (n, K) float32. Returns (K,) float32 with mean 0."""
    prices = cost.new_zeros(cost.shape[1])
    target = len(cost) / cost.shape[1]
    softness = (cost - cost.amin(dim=1, keepdim=True)).mean().clamp(min=SMALL) / 2
    for _ in range(LEVELS):
        for _ in range(SWEEPS):
            mass = (-(cost + prices) / softness).softmax(dim=1).sum(dim=0)
            prices = prices + softness * (mass.clamp(min=1e-6) / target).log()
        softness = softness * COOLING
    return prices - prices.mean()


def assign_at(blocks: Blocks, prices: Tensor) -> Priced:
    """Where the points go at given prices."""
    parts, cost = [], prices.new_zeros((), dtype=torch.float64)
    for block in blocks():
        part = cheapest(block + prices)
        cost += block.gather(1, part[:, None]).sum()
        parts.append(part)
    assignment = torch.cat(parts)
    return Priced(prices, assignment, torch.bincount(assignment, minlength=len(prices)), cost)


def balancing_step(cost: Tensor, prices: Tensor, excess: Tensor) -> Tensor:
    """By how much prices have to change so that the clusters lose what they have too much.

    Args:
        cost: (n, K) of a sample of the points, which tells how many of them go elsewhere as prices change.
        prices: (K,).
        excess: (K,) float32, shares of all points that clusters have beyond 1/K.

    Returns:
        (K,) float32, mean 0.
    """
    total = cost + prices
    least = total.amin(dim=1)
    second = total.scatter(1, cheapest(total)[:, None], torch.inf).amin(dim=1)
    gap = (second - least).mean().clamp(min=SMALL)
    softness = SOFTNESS * gap
    share = (-total / softness).softmax(dim=1)
    curvature = (torch.diag(share.sum(dim=0)) - share.T @ share).double() / (len(cost) * softness)
    ridge = RIDGE * curvature.diagonal().mean() + 1e-12
    curvature.diagonal().add_(ridge)
    # beyond the gap the curvature tells nothing
    step = torch.linalg.solve(curvature, excess.double()).float().clamp(-gap, gap)
    return step - step.mean()


def balanced_prices(blocks: Blocks, sample: Tensor, prices: Tensor, *, sweeps: int, misplaced: float) -> Priced:
    """Prices whose hard assignment is nearly balanced.

    Args:
        blocks: costs of all points.
        sample: (n, K) costs of some of them.
        prices: (K,) where to start.
        sweeps: most assignments of all points.
        misplaced: number of points too many where they are, at which no more is done.
    """
    best = assign_at(blocks, prices)
    total, clusters = len(best.assignment), len(prices)
    least, damping = _misplaced(best.sizes), 1.0
    if least > FAR * total:
        trial = assign_at(blocks, softened_prices(sample))
        if _misplaced(trial.sizes) < least:
            best, least = trial, _misplaced(trial.sizes)
    for _ in range(sweeps - 1):
        if least <= misplaced:
            break
        excess = best.sizes.float() / total - 1 / clusters
        trial = assign_at(blocks, best.prices + damping * balancing_step(sample, best.prices, excess))
        left = _misplaced(trial.sizes)
        if left < least:
            best, least = trial, left
        else:
            damping /= 2
    return best


def _misplaced(sizes: Tensor) -> float:
    """How many points are too many where they are."""
    return float((sizes.double() - sizes.sum() / len(sizes)).clamp(min=0).sum())
