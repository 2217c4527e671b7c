"""95 % intervals of the figures of a model and of the difference between two, over images and over folds.

They answer different questions. Over images: would the difference hold on other images like these, for the very
networks that were trained? Over folds (splits or seeds): would it hold if both were trained again?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

LEVEL = 0.95
FEWEST_FOLDS = 3  # two differences have an interval 13 times as wide as their standard deviation
FEWEST_UNITS = 10  # resampling fewer images or sequences says little about others


class Interval(NamedTuple):
    """A figure, or a difference, with its interval: ``low <= value <= high`` but for rounding and skewness."""

    value: float
    low: float
    high: float

    @property
    def distinct(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


def paired_t_interval(differences: Sequence[float]) -> Interval | None:
    """Student's interval of a mean difference, one value per fold; None for fewer than three folds."""
    folds = len(differences)
    if folds < FEWEST_FOLDS:
        return None
    mean = fmean(differences)
    half = float(stats.t.ppf((1 + LEVEL) / 2, folds - 1)) * stdev(differences) / math.sqrt(folds)
    return Interval(mean, mean - half, mean + half)


def paired_bootstrap_interval(
    ours: Tensor,
    theirs: Tensor,
    statistic: Callable[[Tensor], Tensor],
    *,
    generator: torch.Generator,
    sequence: Sequence[Hashable] | None = None,
    resamples: int = 2000,
) -> Interval | None:
    """Interval of ``statistic(ours) - statistic(theirs)`` over images, by resampling them with replacement.

    Both models see the same resampled images. Images of one sequence are drawn together, since neighbouring
    frames are no independent evidence. The percentiles are widened as those of a t interval are (Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 2015, Section 4.2: the expanded
    percentile interval), without which few images give too narrow an interval.

    Args:
        ours, theirs: (N, ...) or (F, N, ...) counts that add up over the N images, for F folds scored on the same
            images; the difference is the mean over folds.
        statistic: (..., counts) summed over images to (...), ``mean_iou`` for instance.
        generator: of the resampling.
        sequence: N names; images of one name are one unit. None: every image is a unit.
        resamples: how many.

    Returns:
        None where there are fewer than ten units.

    Raises:
        ValueError: ``ours`` and ``theirs`` differ in shape.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"counts of shape {tuple(ours.shape)} and {tuple(theirs.shape)} are not of the same images")
    both = torch.stack([ours, theirs], dim=-4).double()  # (2, N, 3, C) or (F, 2, N, 3, C)
    found = _bootstrap(
        both if both.dim() == 5 else both.unsqueeze(0),
        lambda counts: torch.mean(statistic(counts[:, 0]) - statistic(counts[:, 1]), dim=0).unsqueeze(-1),
        generator=generator,
        sequence=sequence,
        resamples=resamples,
    )
    return found[0] if found else None


def bootstrap_intervals(
    counts: Tensor,
    statistics: Callable[[Tensor], Tensor],
    *,
    generator: torch.Generator,
    sequence: Sequence[Hashable] | None = None,
    resamples: int = 2000,
) -> list[Interval | None] | None:
    """Intervals of K figures of one model over images, as ``paired_bootstrap_interval`` has them of differences.

    Args:
        counts: (N, 3, C) counts that add up over the N images.
        statistics: (..., 3, C) summed over images to (..., K).
        generator, sequence, resamples: as there.

    Returns:
        One for each figure, None for a figure that is NaN; None where there are fewer than ten units.
    """
    return _bootstrap(counts.double(), statistics, generator=generator, sequence=sequence, resamples=resamples)


def _bootstrap(
    counts: Tensor,
    statistics: Callable[[Tensor], Tensor],
    *,
    generator: torch.Generator,
    sequence: Sequence[Hashable] | None,
    resamples: int,
) -> list[Interval | None] | None:
    """Expanded percentile intervals of ``statistics`` of (..., N, 3, C) counts summed over the N images."""
    images = counts.shape[-3]
    units = torch.arange(images) if sequence is None else _numbered(sequence)
    count = int(units.max()) + 1 if images else 0
    if count < FEWEST_UNITS:
        return None
    summed = counts.new_zeros(*counts.shape[:-3], count, *counts.shape[-2:]).index_add_(-3, units, counts)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    values = statistics(torch.einsum("ru,...uxc->...rxc", times, summed))  # (R, K)
    tail = float(stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf((1 - LEVEL) / 2, count - 1)))
    low, high = torch.nanquantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0).tolist()
    seen = statistics(counts.sum(dim=-3)).tolist()
    return [
        None if math.isnan(figure) else Interval(figure, *ends) for figure, *ends in zip(seen, low, high, strict=True)
    ]


def _numbered(names: Sequence[Hashable]) -> Tensor:
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])
