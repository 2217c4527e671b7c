"""Supervised contrast between pixels: embeddings of a class attract, those of other classes repel each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks, world_size

LOWEST_TEMPERATURE = 0.025
CHUNK = 1 << 20  # pairs that are looked at together: 4 MiB for each float32 matrix of them


class Pairs(NamedTuple):
    """Who is contrasted with whom. anchor_class: (N,), key_class: (M,) int64, negative for padding. own_key: (N,)
    int64, the key that is the anchor itself and no positive of it, negative for none; None: none anywhere."""

    anchor_class: Tensor
    key_class: Tensor
    own_key: Tensor | None = None


def pixel_contrast(
    anchor: Tensor,
    anchor_class: Tensor,
    key: Tensor,
    key_class: Tensor,
    *,
    temperature: float,
    own_key: Tensor | None = None,
    key_gradient: bool = False,
) -> Tensor:
    """Mean over anchors of the mean over positives j of -log(e_ij / (e_ij + sum over negatives k of e_ik)).

    e_ij is exp(anchor_i . key_j / temperature) of unit-normalised embeddings; positives are the keys of the
    anchor's class, negatives all others. The mean is over the anchors of the global batch that have at least one
    of each. Computed in float32, in chunks of anchors: beside the (N, D) and (M, D) gradients, which are made
    together with the value, the memory is a few matrices of ``CHUNK`` pairs, or of M where M is more.

    Args:
        anchor: (N, D) of any precision, with gradient.
        anchor_class: (N,) int64; rows of a negative class are padding and no anchors.
        key: (M, D), taken without gradient.
        key_class: (M,) int64; rows of a negative class are padding and no keys.
        temperature: at least 0.025, below which exponentials leave float32.
        own_key: (N,) int64, the index of the key that is left out of an anchor's positives, negative for none;
            default: no key is left out.
        key_gradient: let the gradient through to the keys as well.

    Returns:
        Scalar; a zero connected to the graph where there is nothing to contrast.

    Raises:
        ValueError: a lower temperature.

    Source: Zhou et al., "C3-SemiSeg", ICCV 2021, Eq. 3 and 5, after Wang et al., "Exploring Cross-Image Pixel
    Contrast for Semantic Segmentation", ICCV 2021, Eq. 5.
    """
    if temperature < LOWEST_TEMPERATURE:
        raise ValueError(f"temperature: {temperature} is below {LOWEST_TEMPERATURE}")
    pairs = Pairs(anchor_class, key_class, own_key)
    if anchor.device.type == "cpu":
        anchor, key, pairs = _without_padding(anchor, key, pairs)
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, key = F.normalize(anchor.float(), dim=1), F.normalize(key.float(), dim=1)
        key = key if key_gradient else key.detach()
        positives = count_keys(pairs)
        negatives = (pairs.key_class >= 0).sum() - count_keys(pairs._replace(own_key=None))
        used = (pairs.anchor_class >= 0) & (positives > 0) & (negatives > 0)
        everywhere = sum_over_ranks(used.sum().float())
        share = used * (world_size() / everywhere.clamp(min=1)) / positives.clamp(min=1)  # weight of a pair
        loss: Tensor = _Contrast.apply(anchor, key, pairs, share, temperature)
    return loss


def _without_padding(anchor: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Pairs]:
    """The same without rows of padding. For a CPU: elsewhere their number would have to be waited for."""
    anchors, keys = (torch.from_numpy(np.flatnonzero(each.numpy() >= 0)) for each in pairs[:2])
    own = pairs.own_key
    if own is not None:
        moved = (pairs.key_class >= 0).cumsum(0) - 1
        known = (own >= 0) & (pairs.key_class[own.clamp(min=0)] >= 0)
        own = moved[own.clamp(min=0)].where(known, -1)[anchors]
    return anchor[anchors], key[keys], Pairs(pairs.anchor_class[anchors], pairs.key_class[keys], own)


def count_keys(pairs: Pairs) -> Tensor:
    """(N,) int64: the keys of each anchor's class but its own key; what rows of padding get means nothing."""
    ordered = pairs.key_class.sort().values  # counting by search looks at no value on the host
    first, last = (torch.searchsorted(ordered, pairs.anchor_class, right=right) for right in (False, True))
    count = last - first
    if pairs.own_key is None:
        return count
    own_class = pairs.key_class[pairs.own_key.clamp(min=0)]
    return count - ((pairs.own_key >= 0) & (own_class == pairs.anchor_class)).long()


class _Contrast(torch.autograd.Function):
    """The sum of all pairs' losses times their anchor's share, with the gradient computed along the way."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, key: Tensor, pairs: Pairs, share: Tensor, temperature: float) -> Tensor:
        scaled, largest = anchor / temperature, torch.full((), 1 / temperature, device=anchor.device)
        to_anchor = torch.zeros_like(anchor)
        to_key = torch.zeros_like(key) if ctx.needs_input_grad[1] else None
        total = anchor.new_zeros(())
        for rows in _chunks(pairs):
            same = pairs.anchor_class[rows, None] == pairs.key_class
            similarity = torch.addmm(largest, scaled[rows], key.T, beta=-1)  # at most 0
            exponential = similarity.exp()
            negative = exponential.masked_fill(same | (pairs.key_class < 0), 0)
            negatives = negative.sum(dim=1, keepdim=True)
            apart = (
                same.logical_not_() if pairs.own_key is None else _mark_own(same.logical_not_(), pairs.own_key[rows])
            )
            both = exponential.add_(negatives)
            # -log(e_ij / (e_ij + negatives)), and its slopes by the similarity of either kind of key
            pair = both.log().sub_(similarity).masked_fill_(apart, 0)
            total = total + (share[rows] * pair.sum(dim=1)).sum()
            pull = torch.div(share[rows, None] * negatives, both).masked_fill_(apart, 0)
            tiny = torch.finfo(pull.dtype).tiny
            slope = negative.mul_(pull.sum(dim=1, keepdim=True) / negatives.clamp(min=tiny)).sub_(pull)
            to_anchor[rows] = slope @ key
            if to_key is not None:
                to_key.addmm_(slope.T, scaled[rows])
        ctx.save_for_backward(to_anchor.div_(temperature), to_key)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_anchor, to_key = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * to_anchor, None if to_key is None else gradient * to_key, None, None, None


def _mark_own(apart: Tensor, own_key: Tensor) -> Tensor:
    """``apart`` (rows, M) bool, True also at each row's own key, where it has one; changed in place."""
    index = own_key.clamp(min=0)[:, None]
    return apart.scatter_(1, index, apart.gather(1, index) | (own_key >= 0)[:, None])


def _chunks(pairs: Pairs) -> list[slice]:
    count = len(pairs.anchor_class)
    size = max(CHUNK // max(len(pairs.key_class), 1), 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
