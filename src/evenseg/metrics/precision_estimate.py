"""Precision of pseudo-labels whose truth nobody knows, from images whose labels were not trained on.

How often a pseudo-label of class c and confidence bin b is right is measured on held-out images; averaged over the
confidences of the unlabeled pseudo-labels of c, it is their expected precision. So two sets of images that differ in
how sure the teacher is still agree, if its confidence means the same in both.

The interval treats images, not pixels, as the evidence: pixels of one image are wrong together. It is that of a
proportion in a survey of clusters (Korn and Graubard, "Confidence intervals for proportions with small expected number
of positive counts estimated from survey data", Survey Methodology 1998): the exact binomial one, for as many
independent pixels as would give the variance over images. Unlike percentiles of resampled images it does not shrink
to a point where all of a few images are right.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

LEVEL = 0.95
PRIOR_IMAGES = 2.0  # a bin of few images is drawn towards the precision of its class, as by so many images of it
SMALLEST_CORRELATION = 0.2  # of right and wrong pixels of an image, assumed where fewer images happen to show less
FEWEST_IMAGES = 5  # that an interval takes: with fewer, one odd image is not told from the rule
FEWEST_PIXELS = 100
SURE_IMAGES = 10  # that an estimate takes
SURE_PIXELS = 1000
SURE = 0.05  # of an interval no end of which is further away, the middle is given


class PrecisionEstimate(NamedTuple):
    """Per class, (C,) each; NaN where there is too little to tell.

    value: the estimate, where it is sure: its interval reaches no further than 5 points. low, high: the 95 %
    interval. images, pixels: int64, held-out images with pseudo-labels of the class, and how many of these.
    """

    value: Tensor
    low: Tensor
    high: Tensor
    images: Tensor
    pixels: Tensor


def estimate_precision(kept: Tensor, right: Tensor, unlabeled: Tensor) -> PrecisionEstimate:
    """Estimates the precision of the unlabeled images' pseudo-labels.

    Args:
        kept: (N, C, K) pseudo-labels of the held-out images by class and bin of confidence.
        right: (N, C, K) those that are right.
        unlabeled: (M, C, K) pseudo-labels of unlabeled images, whose truth is unknown.
    """
    images, pixels = (kept.sum(dim=2) > 0).sum(dim=0), kept.sum(dim=(0, 2))
    kept, right, unlabeled = kept.double(), right.double(), unlabeled.double()
    value = _expected(kept.sum(0), right.sum(0), kept.square().sum(0), unlabeled.sum(0))
    low, high = _interval(value, _variance(kept, right, unlabeled, value), _effective(kept.sum(dim=2)))
    known = (images >= FEWEST_IMAGES) & (pixels >= FEWEST_PIXELS)
    sure = (images >= SURE_IMAGES) & (pixels >= SURE_PIXELS) & (value - low <= SURE) & (high - value <= SURE)
    unknown = torch.full_like(value, torch.nan)
    return PrecisionEstimate(
        torch.where(known & sure, value, unknown),
        torch.where(known, low, unknown),
        torch.where(known, high, unknown),
        images,
        pixels,
    )


def _expected(kept: Tensor, right: Tensor, squared: Tensor, unlabeled: Tensor) -> Tensor:
    """(..., C) precision from (..., C, K) sums over images; ``squared``: of the squares of ``kept``."""
    overall = right.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True)
    size = kept.square() / squared.clamp(min=1)  # effective number of images (Kish), 0 for an empty bin
    smooth = (size * right / kept.clamp(min=1) + PRIOR_IMAGES * overall) / (size + PRIOR_IMAGES)
    return (unlabeled / unlabeled.sum(-1, keepdim=True) * smooth).sum(-1)


def _variance(kept: Tensor, right: Tensor, unlabeled: Tensor, value: Tensor) -> Tensor:
    """(C,) variance over held-out and over unlabeled images: the jackknife's, leaving out one image at a time."""
    sums, squares, histogram = (kept.sum(0), kept.square().sum(0), unlabeled.sum(0))
    without = _expected(sums - kept, right.sum(0) - right, squares - kept.square(), histogram)
    other = _expected(sums, right.sum(0), squares, histogram - unlabeled)
    return _jackknife(without, value, kept.sum(dim=2) > 0) + _jackknife(other, value, unlabeled.sum(dim=2) > 0)


def _jackknife(without: Tensor, value: Tensor, present: Tensor) -> Tensor:
    count = present.sum(dim=0)
    return (count - 1) / count * ((without - value).square() * present).sum(dim=0)


def _effective(pixels: Tensor) -> Tensor:
    """(C,) effective number of images with (N, C) pixels: fewer, where some images have most of them (Kish)."""
    return pixels.sum(0).square() / pixels.square().sum(0).clamp(min=1)


def _interval(value: Tensor, variance: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    degrees = (images - 1).clamp(min=1)
    most = images / SMALLEST_CORRELATION
    spread = value * (1 - value)
    size = torch.where(spread < most * variance, spread / variance, most)
    tail = (1 - LEVEL) / 2
    size = size * torch.from_numpy((stats.norm.ppf(tail) / stats.t.ppf(tail, degrees.numpy())) ** 2)
    right, wrong = size * value, size * (1 - value)
    low = torch.from_numpy(stats.beta.ppf(tail, right.numpy(), (wrong + 1).numpy()))
    high = torch.from_numpy(stats.beta.ppf(1 - tail, (right + 1).numpy(), wrong.numpy()))
    # no pseudo-label right, or none wrong: beta is undefined, and the interval reaches the end
    return torch.where(right > 0, low, value * 0), torch.where(wrong > 0, high, value * 0 + 1)
