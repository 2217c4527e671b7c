"""The members of many groups in the order of their keys, by one sort of whole numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOISE_BITS = 31  # of a key


class Segments(NamedTuple):
    """packed: (N,) int64, rising, of group, key and position, the position in the last ``of_position`` bits and the
    group before the last ``below_group``. size: (G,) int64. first: (G,) int64, where each group begins."""

    packed: Tensor
    of_position: int
    below_group: int
    size: Tensor
    first: Tensor

    @property
    def order(self) -> Tensor:
        """(N,) int64, the members group by group, those of no group last."""
        return self.packed & ((1 << self.of_position) - 1)

    @property
    def group(self) -> Tensor:
        """(N,) int64, the group of each of them, G for none."""
        return self.packed >> self.below_group

    def lowest(self, take: Tensor) -> Tensor:
        """(N,) bool, the ``take`` (G,) members of each group with the smallest keys; no shape depends on data."""
        end = torch.cat([self.first + torch.minimum(take, self.size), take.new_zeros(1)])
        kept = torch.arange(len(self.packed), device=take.device) < end.gather(0, self.group)
        return torch.empty_like(kept).scatter_(0, self.order, kept)

    def lowest_indices(self, take: Tensor) -> Tensor:
        """(n,) int64, the same members' positions, group by group."""
        take = torch.minimum(take, self.size).clamp(min=0)
        shift = self.first - (take.cumsum(0) - take)
        place = shift.repeat_interleave(take)
        return self.packed[place + torch.arange(len(place), device=place.device)] & ((1 << self.of_position) - 1)


def segments(group: Tensor, key: Tensor, groups: int) -> Segments:
    """Sort the members of groups by key; of equal keys the first member comes first.

    Group, key and position are packed into one int64, so that what is sorted are values alone. Where they would not
    fit, the last bits of the keys are left out.

    Args:
        group: (N,) int64 in 0..G; G is no group.
        key: (N,) int64 in 0..2^31-1.
        groups: G.
    """
    members = len(group)
    of_position, of_group = max(members - 1, 1).bit_length(), groups.bit_length()
    of_key = min(NOISE_BITS, 63 - of_position - of_group)
    packed = (group << of_key).bitwise_or_(key if of_key == NOISE_BITS else key >> (NOISE_BITS - of_key))
    packed = packed.bitwise_left_shift_(of_position).bitwise_or_(torch.arange(members, device=group.device))
    if packed.device.type == "cpu":
        packed.numpy().sort()  # several times faster than torch's there
    else:
        packed = packed.sort().values
    edges = torch.searchsorted(packed, torch.arange(groups + 1, device=group.device) << (of_key + of_position))
    return Segments(packed, of_position, of_key + of_position, edges.diff(), edges[:-1])


def ordered_bits(value: Tensor) -> Tensor:
    """Whole numbers in 0..2^31-1 in the order of real ones, as float32 of which the last bit is left out."""
    bits = value.float().contiguous().view(torch.int32).long()
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) + (1 << 31)) >> 1
