"""95 % intervals of the difference between two models, over images and over folds.

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
    """A difference with its interval: ``low <= difference <= high`` but for rounding and skewness."""

    difference: float
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
    both = torch.stack([ours, theirs]).double()
    if both.dim() == 4:
        both = both.unsqueeze(1)  # one fold: (2, F, N, 3, C)
    images = both.shape[2]
    units = torch.arange(images) if sequence is None else _numbered(sequence)
    count = int(units.max()) + 1 if images else 0
    if count < FEWEST_UNITS:
        return None
    summed = torch.zeros(*both.shape[:2], count, *both.shape[3:], dtype=torch.float64).index_add_(2, units, both)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    resampled = torch.einsum("ru,mfuxc->mfrxc", times, summed)
    values = _difference(statistic, resampled)
    tail = float(stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf((1 - LEVEL) / 2, count - 1)))
    low, high = torch.nanquantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(_difference(statistic, both.sum(dim=2))), low, high)


def _difference(statistic: Callable[[Tensor], Tensor], counts: Tensor) -> Tensor:
    """(2, F, ..., 3, C) counts to the mean over folds of the difference."""
    value = statistic(counts)
    return torch.mean(value[0] - value[1], dim=0)


def _numbered(names: Sequence[Hashable]) -> Tensor:
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names])
