"""A uniform sample of a stream: the points with the smallest keys.

Samples of parts of a stream, merged, are the sample of the whole, in any order and for any division into parts, as long
as the keys belong to the points (``pixel_keys``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Reservoir(NamedTuple):
    """keys: (m,) int64, rising. points: (m, D), those with these keys."""

    keys: Tensor
    points: Tensor


def reservoir(keys: Tensor, points: Tensor, size: int) -> Reservoir:
    """The ``size`` points with the smallest keys: keys (n,) int64, points (n, D)."""
    order = keys.argsort(stable=True)[:size]
    return Reservoir(keys[order], points[order])


def merge(parts: Iterable[Reservoir], size: int) -> Reservoir:
    """The sample of all parts together; of equal keys those that come first.

    Raises:
        ValueError: there is no part.
    """
    found = list(parts)
    if not found:
        raise ValueError("there is no sample to merge")
    return reservoir(torch.cat([part.keys for part in found]), torch.cat([part.points for part in found]), size)
