"""Multi-Entropy Sampling: pixels drawn evenly from the classes, and from zones of entropy within each class."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from evenseg.functional.entropy_zones import (
    EmptyZone,
    Zones,
    ZoneWidth,
    borrow,
    entropy_zones,
    largest_remainder,
    zone_shares,
)
from evenseg.functional.segments import NOISE_BITS, Segments, ordered_bits, segments

Strategy = Literal["multi_entropy", "quantity", "confidence", "all"]
Estimator = Literal["sample", "weighted"]
RatioRule = Literal["inverse", "sqrt_inverse", "batch_min", "none"]


class Sampling(NamedTuple):
    """How pixels are chosen, see ``sampling_weight``."""

    strategy: Strategy = "multi_entropy"
    estimator: Estimator = "sample"
    zones: int = 5
    alpha: float = 0.1
    empty_zone: EmptyZone = "skip"
    zone_width: ZoneWidth = "equal"


def multi_entropy_sample(
    entropy: Tensor,
    label: Tensor,
    quota: Tensor,
    *,
    zones: int = 5,
    alpha: float = 0.1,
    generator: torch.Generator,
    empty_zone: EmptyZone = "skip",
    zone_width: ZoneWidth = "equal",
) -> Tensor:
    """Draw pixels of every class without replacement, evenly over its zones of entropy.

    Args:
        entropy: (N,) float >= 0, in nats.
        label: (N,) integers; values outside 0..C-1 (255, say) are never drawn, nor is a pixel whose entropy is not
            finite.
        quota: (C,) int64, pixels wanted of each class.
        zones: k, of equal width between a class's smallest and largest entropy.
        alpha: >= 0, of the shares 1 / (alpha + mean entropy) of the zones.
        generator: of the device of ``label``.
        empty_zone, zone_width: see ``zone_shares`` and ``entropy_zones``.

    Returns:
        (n,) int64 indices, class by class: min(quota, available) of each, none of them twice.

    Raises:
        ValueError: entropy and label differ in length, or ``zones`` or ``alpha`` is out of range.

    Source: DeS4 (Ding et al., IJCAI 2023), Eq. 10-11.
    """
    if entropy.ndim != 1 or entropy.shape != label.shape:
        raise ValueError(f"entropy and label must be (N,), not {tuple(entropy.shape)} and {tuple(label.shape)}")
    if zones < 1 or alpha < 0:
        raise ValueError(f"zones must be at least 1 and alpha at least 0, not {zones} and {alpha}")
    found = entropy_zones(entropy, label.long(), len(quota), zones=zones, width=zone_width)
    shares = zone_shares(found, alpha=alpha, empty=empty_zone)
    key = torch.randint(1 << NOISE_BITS, label.shape, generator=generator, device=label.device)
    take = _take(found, shares, quota.long().clamp(min=0))
    return segments(found.cell, key, take.numel()).lowest_indices(take.flatten())


def class_ratio(class_frequency: Tensor, rule: RatioRule = "inverse") -> Tensor:
    """Share of its pixels in a batch that each class gives, so that all give about the same number.

    Args:
        class_frequency: (C,) pixels in the whole labeled set.
        rule: ``inverse``: smallest frequency / frequency, 1 for the rarest class; ``sqrt_inverse``: its square root;
            ``none`` and ``batch_min``: 1, the latter as ``sampling_quota`` looks at the batch instead.

    Returns:
        (C,) float64 in [0, 1]; 0 for classes that do not occur, which do not set the smallest frequency.

    Source: DeS4, Section 3.3. As printed, with ratios of at least 1, it would ask for more pixels than there are.
    """
    frequency = class_frequency.double()
    present = frequency > 0
    smallest = torch.where(present, frequency, torch.inf).amin()
    ratio = torch.where(present, smallest / frequency.clamp(min=1), 0.0)
    if rule == "inverse":
        return ratio
    return ratio.sqrt() if rule == "sqrt_inverse" else present.double()


def sampling_quota(
    ratio: Tensor, count: Tensor, *, rule: RatioRule = "inverse", min_per_class: int = 1, max_fraction: float = 1.0
) -> Tensor:
    """Pixels wanted of each class of a batch: its ratio of those there are, rounded.

    Args:
        ratio: (C,) of ``class_ratio``.
        count: (C,) int64 pixels in the batch.
        rule: ``batch_min`` wants as many of all classes as the smallest one present has.
        min_per_class: wanted at least, where there are as many.
        max_fraction: no ratio is above.

    Returns:
        (C,) int64 in 0..count.
    """
    if rule == "batch_min":
        smallest = torch.where(count > 0, count, count.amax()).amin()
        ratio = smallest.double() / count.clamp(min=1)
    wanted = (ratio.clamp(max=max_fraction) * count).round().long()
    return torch.minimum(wanted.clamp(min=min_per_class), count)


def sampling_weight(
    entropy: Tensor,
    label: Tensor,
    num_classes: int,
    quota: Tensor | None,
    key: Tensor,
    *,
    confidence: Tensor | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 - a tuple
) -> Tensor:
    """The weight of every pixel in the mean of its class: what a sample is where no shape may depend on data.

    ``multi_entropy`` draws as ``multi_entropy_sample``; ``quantity`` draws as many at random; ``confidence`` as many
    with a probability that goes with 1 - confidence; ``all`` takes everything. The estimator ``weighted`` gives every
    pixel its expected weight instead, of a sample with replacement, and draws nothing.

    Args:
        entropy: (N,) float.
        label: (N,) int64; values outside 0..C-1 have weight 0.
        num_classes: C.
        quota: (C,) int64, pixels wanted of each class; None: all. ``weighted`` does not look at it.
        key: (N,) int64 in 0..2^31-1, random.
        confidence: (N,) largest probability, for ``confidence`` alone.
        sampling: what is done.

    Returns:
        (N,) float32, sums to 1 over each class that gives a pixel.

    Source: DeS4, Section 3.3 and Table 4.
    """
    zones = sampling.zones if sampling.strategy == "multi_entropy" else 1
    found = entropy_zones(entropy, label, num_classes, zones=zones, width=sampling.zone_width)
    shares = zone_shares(found, alpha=sampling.alpha, empty=sampling.empty_zone)
    doubt = None
    if sampling.strategy == "confidence":
        if confidence is None:
            raise ValueError("the strategy 'confidence' needs the confidence of the pixels")
        doubt = torch.where(found.cell < num_classes, (1 - confidence.detach().double()).clamp(min=0), 0.0)
    if sampling.estimator == "weighted":
        return _expected_weight(found, shares, doubt)
    count = found.size.sum(dim=1)
    wanted = count if quota is None or sampling.strategy == "all" else quota
    take = _take(found, shares, wanted)
    if doubt is not None:
        # Gumbel's trick: the largest log w - log(-log u) are a weighted sample without replacement
        uniform = (key.double() + 0.5) / (1 << NOISE_BITS)
        key = ordered_bits((-uniform.log()).log() - doubt.log())
    drawn: Segments = segments(found.cell, key, take.numel())
    each = _by_cell((1 / take.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(take))
    return torch.where(drawn.lowest(take.flatten()), each.gather(0, found.cell), 0.0)


def _take(found: Zones, shares: Tensor, quota: Tensor) -> Tensor:
    """(C, k) int64 pixels taken of each zone."""
    wanted = torch.minimum(quota, found.size.sum(dim=1))
    return borrow(largest_remainder(shares, wanted), found.size)


def _expected_weight(found: Zones, shares: Tensor, doubt: Tensor | None) -> Tensor:
    if doubt is None:
        if shares.shape[1] > 1:  # the share of an empty zone, if it has one, is that of its class's other zones
            shares = torch.where(found.occupied, shares, 0.0)
            shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        return _by_cell(shares / found.size.clamp(min=1)).gather(0, found.cell)
    total = torch.zeros(found.size.numel() + 1, dtype=torch.float64, device=doubt.device)
    total = total.scatter_add_(0, found.cell, doubt)
    even = _by_cell(1 / found.size.clamp(min=1)).gather(0, found.cell)
    mass = total.gather(0, found.cell)
    return torch.where(mass > 0, doubt / mass.clamp(min=torch.finfo(torch.float64).tiny), even).float()


def _by_cell(value: Tensor) -> Tensor:
    """(C, k) values as float32 in a row, with a 0 behind for pixels of no class."""
    return torch.cat([value.flatten().float(), value.new_zeros(1, dtype=torch.float32)])
