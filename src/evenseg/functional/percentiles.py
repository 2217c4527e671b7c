"""Exact percentiles of all valid pixels of the global batch, without sorting, gathering or waiting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks

BITS = 16  # of a float32 that are told apart in each of two rounds
PLACES = 1 << BITS


def percentiles(
    value: Tensor, valid: Tensor, percent: Sequence[float], rounding: Sequence[Literal["down", "up"]]
) -> Tensor:
    """The values that are entry floor or ceil of percent / 100 * (n - 1) of the n valid ones in ascending order.

    Where numpy interpolates between two entries these are the two: ``value <= interpolated`` is ``value <= down`` and
    ``value >= interpolated`` is ``value >= up``. The bits of a float32 that is not negative are ordered as the number
    is: one histogram of the upper half finds out where an entry lies, another of the lower half, among those that
    agree with it in the upper, which it is. Histograms are summed over ranks.

    Args:
        value: of any shape, >= 0; taken as float32.
        valid: bool of that shape.
        percent: K numbers in [0, 100].
        rounding: ``down`` or ``up``, one for each of them.

    Returns:
        (K,) float32; NaN where nothing is valid.
    """
    bits = value.detach().float().clamp(min=0).contiguous().flatten().view(torch.int32)
    upper, lower = bits >> BITS, bits & (PLACES - 1)
    first = sum_over_ranks(_histogram(upper, valid.flatten(), 1))[0].cumsum(0)
    count = first[-1]
    share = torch.tensor([each / 100 for each in percent], dtype=torch.float64).to(value.device, non_blocking=True)
    place = share * (count - 1)
    up = torch.tensor([each == "up" for each in rounding]).to(value.device, non_blocking=True)
    # a share that is not exact in binary must not make a whole number a little more than it is
    entry = torch.where(up, (place - 1e-9 * count).ceil(), (place + 1e-9 * count).floor()).long().clamp(min=0)
    high = torch.searchsorted(first, entry, right=True).clamp(max=PLACES - 1)
    below = torch.where(high > 0, first[(high - 1).clamp(min=0)], 0)
    same = (upper == high[:, None]) & valid.flatten()
    second = sum_over_ranks(_histogram(lower.expand_as(same), same, len(percent))).cumsum(1)
    low = torch.searchsorted(second, (entry - below)[:, None], right=True).squeeze(1).clamp(max=PLACES - 1)
    found = (high << BITS | low).int().view(torch.float32)
    return found.where(count > 0, math.nan)


def _histogram(place: Tensor, counted: Tensor, rows: int) -> Tensor:
    """(rows, PLACES) int64: how many of the counted have each place; ``place`` and ``counted`` are of one row each."""
    place, counted = place.view(rows, -1).long(), counted.view(rows, -1)
    counts = torch.zeros(rows, PLACES, dtype=torch.int64, device=place.device)
    return counts.scatter_add_(1, place, counted.long())
