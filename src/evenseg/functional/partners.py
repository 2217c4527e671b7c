"""Random choices of classes and of partner images from given uniform numbers.

The numbers are drawn by the caller, keyed by sample (``functional.random.slot_uniform``); one that conversion to
float32 has rounded up to 1 counts as the largest below. Nothing here waits for the device, and no shape depends on
the data.
"""

from __future__ import annotations

import torch
from torch import Tensor


def choose_member(member: Tensor, uniform: Tensor) -> Tensor:
    """One of the columns that are True in each row, all equally probable.

    Args:
        member: (B, N) bool.
        uniform: (B,) numbers in [0, 1); float64 unless N is small.

    Returns:
        (B,) int64 on the device of ``member``, -1 where no column is True.
    """
    if member.shape[1] == 0:
        return torch.full((len(member),), -1, device=member.device)
    ordinal = member.cumsum(dim=1)  # counted from 1
    count = ordinal[:, -1:]
    draw = uniform.to(member.device, non_blocking=True)[:, None]
    wanted = torch.minimum((draw * count).long() + 1, count)
    return torch.where(count > 0, torch.searchsorted(ordinal, wanted), -1).squeeze(1)


def choose_partner(presence: Tensor, wanted: Tensor, uniform: Tensor) -> Tensor:
    """For each sample an image that contains the class it wants, all such images equally probable.

    Args:
        presence: (C, N) bool, whether image n contains class c.
        wanted: (B,) int64, the wanted class.
        uniform: (B,) numbers in [0, 1).

    Returns:
        (B,) int64 index of an image, -1 where no image contains the class.

    Source: Hu et al., AEL, NeurIPS 2021, Section 3.3 (adaptive CutMix).
    """
    return choose_member(presence.index_select(0, wanted.to(presence.device)), uniform)


def choose_class(probability: Tensor, uniform: Tensor) -> Tensor:
    """A class per sample, by the inverse of the cumulated probabilities.

    Args:
        probability: (C,) >= 0, at least one above 0; need not sum to 1.
        uniform: (B,) numbers in [0, 1).

    Returns:
        (B,) int64 on the device of ``probability``; never a class of probability 0.
    """
    cumulated = probability.double().cumsum(dim=0)
    total = cumulated[-1:]
    draw = uniform.to(probability.device, non_blocking=True).double() * total
    # the first class whose sum lies above the draw
    last = torch.searchsorted(cumulated, total)
    return torch.minimum(torch.searchsorted(cumulated, draw, right=True), last)


def choose_classes(probability: Tensor, count: int, uniform: Tensor, *, replacement: bool = False) -> Tensor:
    """Several classes per sample.

    Without replacement the draws are one after the other, each among the classes that are left and in
    proportion to their probability. An exponential race decides them at once: class c arrives at an
    exponential time of rate p_c, and the first ``count`` are taken.

    Args:
        probability: (C,) >= 0; need not sum to 1.
        count: classes per sample.
        uniform: (B, C) numbers in [0, 1); with ``replacement`` (B, count), one for each draw.
        replacement: draw independently instead, so that a class drawn twice counts once (AEL's official code).

    Returns:
        (B, C) bool: ``count`` classes in each row, or all of probability above 0 where these are fewer; with
        ``replacement`` at most ``count``. Never a class of probability 0.

    Raises:
        ValueError: ``uniform`` has not as many columns as are used.

    Source of the race: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 2006.
    """
    classes, needed = len(probability), count if replacement else len(probability)
    if uniform.shape[1] != needed:
        raise ValueError(f"{uniform.shape[1]} random numbers per sample, not {needed}")
    uniform = uniform.to(probability.device, non_blocking=True).double()
    chosen = torch.zeros(len(uniform), classes, dtype=torch.bool, device=probability.device)
    if replacement:
        return chosen.scatter_(1, choose_class(probability, uniform.flatten()).view_as(uniform), True)
    allowed = probability > 0
    arrival = (-torch.log1p(-uniform) / probability.double()).clamp(max=torch.finfo(torch.float64).max)
    arrival = torch.where(allowed, arrival, torch.inf)
    first = arrival.topk(min(count, classes), largest=False).indices
    return chosen.scatter_(1, first, True) & allowed
