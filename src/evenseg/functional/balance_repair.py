"""Makes a nearly balanced assignment exactly balanced, at the least cost.

An assignment by least cost and price is the cheapest of all that have its sizes. Moving one point after the other along
the cheapest path from a cluster with too many to one with too few keeps it so (successive shortest paths): the result
is the cheapest balanced assignment, up to a tolerance within which many points are moved at once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenseg.functional.balance_costs import Blocks
from evenseg.functional.balance_prices import Priced, assign_at

Costs: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

CANDIDATES = 1 << 14  # points looked at: those of each cluster that lose least by going elsewhere; more if these fail


class Balanced(NamedTuple):
    """assignment: (N,) int64, exactly balanced. prices: (K,) float32, which lead to it but for few points."""

    assignment: Tensor
    prices: Tensor


def repaired(blocks: Blocks, priced: Priced, *, tolerance: float) -> Balanced:
    """The cheapest assignment whose sizes are N / K rounded down or up.

    Args:
        blocks: costs of all points.
        priced: an assignment by least cost and price; the nearer to balanced, the faster.
        tolerance: of the costs' sum, >= 0.

    Returns:
        The assignment, and those prices at which the bound of its cost by duality is highest.
    """
    assignment, prices = priced.assignment, priced.prices.double().cpu().numpy()
    total, clusters = len(assignment), len(prices)
    floor, larger = divmod(total, clusters)
    wanted: Integers = np.full(clusters, floor)
    wanted[np.argsort(-prices, kind="stable")[:larger]] += 1  # whose places are worth most
    sizes, share, graph = priced.sizes.cpu().numpy(), CANDIDATES // clusters, None
    while (sizes != wanted).any():
        excess = sizes - wanted
        moves = int(excess.clip(min=0).sum())
        everything = total <= CANDIDATES or share * clusters >= total
        counts = sizes if everything else np.minimum(sizes, share + 4 * excess.clip(min=0))
        index, cost, limits = _candidates(blocks, priced.prices, assignment, counts)
        limits[counts == sizes] = np.inf
        graph = _Moves(cost, assignment[index].cpu().numpy(), prices, wanted, excess)
        graph.run(tolerance / (3 * moves), limits)
        assignment = assignment.index_copy(0, index, torch.from_numpy(graph.own).to(assignment.device))
        sizes, share = wanted + graph.excess, share * 8
    if graph is not None:
        better = assign_at(blocks, torch.from_numpy(graph.best_prices(tolerance / total)).to(priced.prices))
        if _bound(better, floor, larger) > _bound(priced, floor, larger):
            return Balanced(assignment, better.prices)
    return Balanced(assignment, priced.prices)


def _bound(priced: Priced, floor: int, larger: int) -> float:
    """The dual objective: no balanced assignment costs less."""
    prices = priced.prices.double()
    value = priced.cost + (priced.sizes * prices).sum() - floor * prices.sum() - prices.topk(larger).values.sum()
    return float(value)


def _candidates(blocks: Blocks, prices: Tensor, assignment: Tensor, counts: Integers) -> tuple[Tensor, Costs, Floats]:
    """Of each cluster the ``counts`` (K,) points that lose least by going elsewhere, at the prices.

    Returns:
        Their indices (n,), costs (n, K), and the largest loss of each cluster's (K,).
    """
    losses, start = [], 0
    for block in blocks():
        own = assignment[start : start + len(block), None]
        total = block + prices
        here = total.gather(1, own)
        losses.append(total.scatter_(1, own, torch.inf).amin(dim=1) - here[:, 0])
        start += len(block)
    loss = torch.cat(losses)
    limits: Floats = np.full(len(prices), -np.inf)
    chosen = torch.zeros_like(assignment, dtype=torch.bool)
    for cluster, count in enumerate(counts.tolist()):
        if count > 0:
            members = (assignment == cluster).nonzero()[:, 0]
            limit = loss[members].kthvalue(count).values
            limits[cluster] = float(limit)
            chosen[members[loss[members] <= limit]] = True
    rows, start = [], 0
    for block in blocks():
        rows.append(block[chosen[start : start + len(block)]])
        start += len(block)
    return chosen.nonzero()[:, 0], torch.cat(rows).cpu().numpy(), limits


class _Moves:
    """The graph of clusters, and one node more through which the places beyond the floor change hands.

    own: (n,) cluster of each candidate. wanted: (K,) sizes as they are now distributed.
    """

    def __init__(self, cost: Costs, own: Integers, prices: Floats, wanted: Integers, excess: Integers) -> None:
        self.cost, self.own, self.prices, self.wanted, self.excess = cost, own.copy(), prices, wanted, excess
        self.clusters = len(prices)
        self.floor, self.larger = divmod(int(wanted.sum()), self.clusters)
        self.length: Floats = np.full((self.clusters + 1, self.clusters + 1), np.inf)
        for node in range(self.clusters):
            self._measure(node)

    def run(self, tolerance: float, limits: Floats) -> None:
        """Moves points until all sizes are as wanted, or points that lose more than ``limits`` might be cheaper.

        Args:
            tolerance: within which costs count as the same.
            limits: (K,) losses of points of each cluster, up to which the candidates are complete.
        """
        while (self.excess > 0).any():
            distance, before = self._shortest(tolerance)
            used: set[int] = set()
            lacking = np.flatnonzero(self.excess < 0)
            for node in lacking[np.argsort(distance[lacking], kind="stable")]:
                path = self._path(int(node), before)
                if self.excess[path[0]] <= 0 or used.intersection(path[:-1]):
                    continue
                if any(self._loss(a, b) > limits[a] for a, b in pairwise(path) if a < self.clusters):
                    return
                self._augment(path, tolerance)
                used.update(path)
            for node in used:
                self._measure(node)

    def best_prices(self, tolerance: float) -> Floats:
        """Prices (K,) near the given ones at which no move would gain more than the tolerance."""
        order = np.sort(self.prices)[::-1]
        price = np.append(self.prices, order[self.larger - 1 : self.larger + 1].mean() if self.larger else 0.0)
        loss = self.length + price - price[:, None]
        lower, upper = np.zeros_like(price), np.zeros_like(price)  # how far the price has to fall, or to rise
        for _ in range(self.clusters + 1):
            fall = np.minimum(lower, (loss + lower).min(axis=1))
            rise = np.minimum(upper, (loss + upper[:, None]).min(axis=0))
            settled = (lower - fall).max() <= tolerance and (upper - rise).max() <= tolerance
            lower, upper = fall, rise
            if settled:
                break
        return (price + (lower - upper) / 2)[:-1]

    def _loss(self, a: int, b: int) -> float:
        """What the next point from cluster a to b loses at the prices."""
        return -np.inf if b == self.clusters else float(self.length[a, b] + self.prices[b] - self.prices[a])

    def _measure(self, node: int) -> None:
        """Lengths of the arcs that start at a cluster: what the cheapest move to each other costs."""
        if node == self.clusters:
            return
        members = self.cost[self.own == node]
        if len(members):
            self.length[node, :-1] = (members - members[:, node, None]).min(axis=0)
        else:
            self.length[node, :-1] = np.inf
        self.length[node, node] = np.inf
        self.length[node, -1] = 0.0 if self.larger and self.wanted[node] == self.floor else np.inf
        self.length[-1, node] = 0.0 if self.wanted[node] > self.floor else np.inf

    def _shortest(self, tolerance: float) -> tuple[Floats, list[Integers]]:
        """Distances from the clusters with too many, and for each number of arcs the node before (Bellman and Ford)."""
        distance = np.full(self.clusters + 1, np.inf)
        distance[:-1][self.excess > 0] = 0.0
        before: list[Integers] = []
        here = np.arange(self.clusters + 1)
        while len(before) <= self.clusters:
            through = distance[:, None] + self.length
            node = through.argmin(axis=0)
            shorter = through[node, here]
            better = shorter < distance - tolerance
            if not better.any():
                break
            distance = np.where(better, shorter, distance)
            before.append(np.where(better, node, here))
        return distance, before

    @staticmethod
    def _path(node: int, before: list[Integers]) -> list[int]:
        """The nodes up to ``node``, without circles, which the tolerance may have made."""
        path = [node]
        for step in reversed(before):
            node = int(step[path[-1]])
            if node in path:
                del path[path.index(node) + 1 :]
            else:
                path.append(node)
        return path[::-1]

    def _augment(self, path: list[int], tolerance: float) -> None:
        """Moves along a path as many points as cost the same, within the tolerance."""
        arcs = list(pairwise(path))
        amount = int(min(self.excess[path[0]], -self.excess[path[-1]]))
        moving: list[tuple[Integers, int]] = []
        for a, b in arcs:
            if self.clusters in (a, b):
                amount = min(amount, 1)  # at most one place more than the floor
                continue
            members = np.flatnonzero(self.own == a)
            extra = self.cost[members, b] - self.cost[members, a]
            order = np.argsort(extra, kind="stable")
            order = order[extra[order] <= self.length[a, b] + tolerance]
            amount = min(amount, len(order))
            moving.append((members[order], b))
        for members, b in moving:
            self.own[members[:amount]] = b
        for a, b in arcs:
            if b == self.clusters:
                self.wanted[a] += amount
            elif a == self.clusters:
                self.wanted[b] -= amount
        # a cluster that takes a place over keeps its points: the counts of both ends follow from sizes and places
        self.excess[path[0]] -= amount
        self.excess[path[-1]] += amount
