"""Zones of entropy within each class, and how a quota is divided over them: all classes at once, without a loop."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.segments import ordered_bits, segments

_ROWS = 256

ZoneWidth = Literal["equal", "quantile"]
EmptyZone = Literal["skip", "midpoint"]


class Zones(NamedTuple):
    """cell: (N,) int64, class * k + zone; C * k for pixels of no class. size: (C, k) int64 pixels. mean: (C, k)
    float64 mean entropy, that of its centre where a zone is empty."""

    cell: Tensor
    size: Tensor
    mean: Tensor

    @property
    def occupied(self) -> Tensor:
        """Zones with a pixel."""
        return self.size > 0


def entropy_zones(
    entropy: Tensor, label: Tensor, num_classes: int, *, zones: int = 5, width: ZoneWidth = "equal"
) -> Zones:
    """Divide the pixels of every class into zones of entropy.

    Zone i of a class is [lo + i L, lo + (i + 1) L), L = (hi - lo) / k, with lo and hi its smallest and largest
    entropy; the last one is closed, and of equal entropies all are in the first.

    Args:
        entropy: (N,) float, computed with in float64.
        label: (N,) int64; values outside 0..C-1 are of no class, and so are pixels whose entropy is not finite.
        num_classes: C.
        zones: k >= 1.
        width: zones of ``equal`` width, or with an equal number of pixels (``quantile``).

    Source: DeS4 (Ding et al., IJCAI 2023), Eq. 10; quantiles are ours.
    """
    valid = (label >= 0) & (label < num_classes) & entropy.isfinite()
    code = torch.where(valid, label, num_classes)
    value = torch.where(valid, entropy.detach(), 0.0).double()
    low = _by_group(value, code, num_classes + 1, "amin", torch.inf)
    high = _by_group(value, code, num_classes + 1, "amax", -torch.inf)
    step = torch.where(high > low, (high - low) / zones, 0.0)
    if zones == 1:
        zone = torch.zeros_like(code)
    elif width == "equal":
        # where all entropies are equal they are lo, and 0 / 1 is 0
        distance = low.gather(0, code).neg_().add_(value)
        zone = distance.div_(torch.where(step > 0, step, 1.0).gather(0, code)).floor_().clamp_(0, zones - 1).long()
    else:
        zone = _quantile(value, code, num_classes, zones)
    cell = zone.add_(code, alpha=zones)  # what is of no class is in the first zone of one behind all classes
    cells = num_classes * zones + 1
    count = _by_group(torch.ones_like(cell), cell, cells, "sum", 0)[:-1].view(num_classes, zones)
    total = _by_group(value, cell, cells, "sum", 0.0)[:-1].view(num_classes, zones)
    centre = low[:-1, None] + step[:-1, None] * (torch.arange(zones, device=entropy.device) + 0.5)
    mean = torch.where(count > 0, total / count.clamp(min=1), centre)
    return Zones(cell, count, mean)


def _by_group(value: Tensor, group: Tensor, groups: int, how: Literal["sum", "amin", "amax"], neutral: float) -> Tensor:
    """(groups,) sums, minima or maxima of (N,) values; ``neutral`` for a group without members.

    On a GPU first in rows: there it waits less for its own writes to one place.
    """
    rows = _ROWS if value.is_cuda else 1
    missing = -len(value) % rows
    value, group = F.pad(value, (0, missing), value=neutral), F.pad(group, (0, missing), value=groups - 1)
    found = torch.full((rows, groups), neutral, dtype=value.dtype, device=value.device)
    found = found.scatter_reduce(1, group.view(rows, -1), value.view(rows, -1), how)
    return found.sum(dim=0) if how == "sum" else found.amin(dim=0) if how == "amin" else found.amax(dim=0)


def _quantile(value: Tensor, code: Tensor, num_classes: int, zones: int) -> Tensor:
    """floor(k * rank / n), with the rank of the entropy among the n of the class; the first of equals is lower."""
    found = segments(code, ordered_bits(value), num_classes)
    size = torch.cat([found.size, found.size.new_ones(1)])[found.group].clamp(min=1)
    first = torch.cat([found.first, found.size.sum()[None]])[found.group]
    rank = torch.arange(len(code), device=code.device) - first
    zone = torch.where(found.group < num_classes, (rank * zones // size).clamp(max=zones - 1), 0)
    return torch.empty_like(zone).scatter_(0, found.order, zone)


def zone_shares(zones: Zones, *, alpha: float = 0.1, empty: EmptyZone = "skip") -> Tensor:
    """What share of a class's sample each zone is to have: 1 / (alpha + mean entropy), normalised.

    Args:
        zones: of all classes.
        alpha: >= 0; the larger, the more even.
        empty: a zone without a pixel has no share (``skip``), or that of its centre (``midpoint``), which it then
            borrows from others.

    Returns:
        (C, k) float64; rows sum to 1, and to 0 for classes without a pixel.

    Source: DeS4, Eq. 11; empty zones as in its model, SPE (Liu et al., ICDE 2020).
    """
    tiny = torch.finfo(torch.float64).tiny
    share = 1 / (alpha + zones.mean).clamp(min=1e-12)
    present = zones.occupied.any(dim=1, keepdim=True)
    share = torch.where(zones.occupied if empty == "skip" else present, share, 0.0)
    return share / share.sum(dim=1, keepdim=True).clamp(min=tiny)


def largest_remainder(share: Tensor, total: Tensor) -> Tensor:
    """Whole numbers near ``share * total`` that sum to ``total``: of equal remainders the first zones are rounded up.

    Args:
        share: (C, k), rows that sum to 1, or to 0.
        total: (C,) int64 >= 0.

    Returns:
        (C, k) int64; rows without a share are 0.
    """
    exact = share.double() * total[:, None]
    whole = exact.floor()
    missing = torch.where(share.sum(dim=1) > 0, total - whole.sum(dim=1).long(), 0)
    order = (exact - whole).argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(share.shape[1], device=share.device).expand_as(order)
    )
    return whole.long() + (place < missing[:, None])


def borrow(quota: Tensor, count: Tensor) -> Tensor:
    """What is taken of each zone where some have fewer pixels than they are to give.

    What is missing comes from zones at distance 1, then 2, and so on; at equal distance first from the one of lower
    entropy. For one distance and side every zone that gives faces one that lacks, so that all move together.

    Args:
        quota: (C, k) int64 wanted.
        count: (C, k) int64 there.

    Returns:
        (C, k) int64, at most ``count``; rows sum to that of the quota, or of all there is.

    Source: DeS4, Section 3.3 ("sample from the neighboring zones"); order and sides are ours.
    """
    taken = torch.minimum(quota, count)
    need, spare = quota - taken, count - taken
    for distance in range(1, quota.shape[1]):
        lower, upper = slice(None, -distance), slice(distance, None)
        for lacking, giving in ((upper, lower), (lower, upper)):
            moved = torch.minimum(need[:, lacking], spare[:, giving])
            need[:, lacking] -= moved
            spare[:, giving] -= moved
            taken[:, giving] += moved
    return taken
