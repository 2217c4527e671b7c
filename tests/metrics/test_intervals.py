"""Intervals of differences: against a plain bootstrap, and by simulating many experiments whose truth is known."""

import math
import statistics

import numpy as np
import pytest
import torch
from torch import Tensor

from evenseg.metrics.confusion import iou_per_class, mean_over_classes
from evenseg.metrics.image_counts import class_iou, image_counts, mean_iou
from evenseg.metrics.intervals import bootstrap_intervals, paired_bootstrap_interval, paired_t_interval

CLASSES = 4
SIMULATIONS = 2000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Population:
    """Images of uneven class mixtures and two models of uneven quality, both drawn image by image.

    Args:
        skill: (2, C) logits of the accuracy of each model on each class.
        images: size of the population that defines the true difference.
    """

    def __init__(self, skill: Tensor, *, images: int = 20_000, seed: int = 1) -> None:
        draw = np.random.default_rng(seed)
        share = draw.dirichlet([4.0, 2.0, 1.0, 0.3], size=images)  # a rare class that many images lack
        truth = np.floor(share * 1000)
        hard = draw.normal(0, 0.7, (images, 1))  # hard images are hard for both models
        counts = []
        for model in skill.numpy():
            accuracy = 1 / (1 + np.exp(-(model + hard + draw.normal(0, 0.4, (images, CLASSES)))))
            hits = np.floor(truth * accuracy)
            wrong = (truth - hits).sum(axis=1, keepdims=True) - (truth - hits)
            predicted = hits + wrong / (CLASSES - 1)
            counts.append(np.stack([hits, truth, predicted], axis=1))
        self.counts = torch.from_numpy(np.stack(counts))  # (2, images, 3, C)
        self.difference = float(mean_iou(self.counts[0].sum(0)) - mean_iou(self.counts[1].sum(0)))


def test_counts_give_the_iou_of_the_matrix() -> None:
    matrix = torch.randint(0, 50, (5, 6, 6), generator=generator())
    matrix[:, 2] = 0  # a class that occurs nowhere, though it is predicted
    whole = matrix.sum(dim=0)
    counts = image_counts(matrix).sum(dim=0)
    assert mean_iou(counts).item() == pytest.approx(mean_over_classes(iou_per_class(whole)).item())
    assert mean_iou(counts, [0, 2]).item() == pytest.approx(iou_per_class(whole)[0].item())
    assert math.isnan(mean_iou(counts, [2]))


def test_t_interval_by_hand() -> None:
    values = [0.01, 0.03, 0.05]
    interval = paired_t_interval(values)
    assert interval is not None
    half = 4.302653 * statistics.stdev(values) / math.sqrt(3)  # the 97.5 % quantile of t with 2 degrees of freedom
    assert interval == pytest.approx((0.03, 0.03 - half, 0.03 + half), abs=1e-8)
    assert not interval.distinct


def test_two_folds_have_no_interval() -> None:
    assert paired_t_interval([0.01, 0.03]) is None


def test_bootstrap_against_a_plain_one() -> None:
    ours, theirs = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.5, 1.0, 0.0, -1.5]])).counts[:, :50]
    interval = paired_bootstrap_interval(ours, theirs, mean_iou, generator=generator(), resamples=4000)
    assert interval is not None
    draw = np.random.default_rng(5)
    plain = []
    for _ in range(4000):
        chosen = torch.from_numpy(draw.integers(0, 50, 50))
        plain.append(float(mean_iou(ours[chosen].sum(0)) - mean_iou(theirs[chosen].sum(0))))
    low, high = np.quantile(plain, [0.025, 0.975])
    width = high - low
    assert interval.value == pytest.approx(float(mean_iou(ours.sum(0)) - mean_iou(theirs.sum(0))))
    assert interval.low == pytest.approx(low, abs=0.1 * width)
    assert interval.high == pytest.approx(high, abs=0.1 * width)
    assert interval.high - interval.low > width  # widened for the 50 images


def test_intervals_of_one_model() -> None:
    counts = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.5, 1.0, 0.0, -1.5]])).counts[0, :50]
    counts[..., 3] = 0  # a class that does not occur
    intervals = bootstrap_intervals(counts, class_iou, generator=generator(), resamples=4000)
    assert intervals is not None
    assert intervals[3] is None
    draw = np.random.default_rng(5)
    plain = [class_iou(counts[torch.from_numpy(draw.integers(0, 50, 50))].sum(0)).numpy() for _ in range(4000)]
    for c in range(3):
        low, high = np.quantile([iou[c] for iou in plain], [0.025, 0.975])
        assert intervals[c].value == pytest.approx(float(class_iou(counts.sum(0))[c]))
        assert intervals[c].low == pytest.approx(low, abs=0.1 * (high - low))
        assert intervals[c].high == pytest.approx(high, abs=0.1 * (high - low))
    assert bootstrap_intervals(counts[:9], class_iou, generator=generator()) is None


def test_folds_are_averaged() -> None:
    ours, theirs = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.5, 1.0, 0.0, -1.5]])).counts[:, :40]
    once = paired_bootstrap_interval(ours, theirs, mean_iou, generator=generator())
    twice = paired_bootstrap_interval(
        torch.stack([ours, ours]), torch.stack([theirs, theirs]), mean_iou, generator=generator()
    )
    assert once is not None
    assert twice == pytest.approx(once)


def test_frames_of_a_sequence_go_together() -> None:
    ours, theirs = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.5, 1.0, 0.0, -1.5]])).counts[:, :30]
    # ten copies of each image are no more evidence than one
    frames = [name for name in range(30) for _ in range(10)]
    copied = [counts.repeat_interleave(10, dim=0) for counts in (ours, theirs)]
    single = paired_bootstrap_interval(ours, theirs, mean_iou, generator=generator())
    grouped = paired_bootstrap_interval(*copied, mean_iou, generator=generator(), sequence=frames)
    naive = paired_bootstrap_interval(*copied, mean_iou, generator=generator())
    assert single is not None
    assert naive is not None
    assert grouped == pytest.approx(single)
    assert naive.high - naive.low < 0.5 * (single.high - single.low)


def test_few_units_have_no_interval() -> None:
    counts = torch.ones(30, 3, 2)
    assert paired_bootstrap_interval(counts[:9], counts[:9], mean_iou, generator=generator()) is None
    assert paired_bootstrap_interval(counts, counts, mean_iou, generator=generator(), sequence=["a", "b"] * 15) is None


def test_counts_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap_interval(torch.ones(20, 3, 2), torch.ones(21, 3, 2), mean_iou, generator=generator())


@pytest.mark.parametrize("images", [30, 120])
def test_bootstrap_covers_the_true_difference(images: int) -> None:
    population = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0], [1.7, 1.0, 0.2, -1.4]]))
    draw = generator(7)
    covered = 0
    for _ in range(SIMULATIONS):
        sample = population.counts[:, torch.randint(20_000, (images,), generator=draw)]
        interval = paired_bootstrap_interval(*sample, mean_iou, generator=draw, resamples=400)
        assert interval is not None
        covered += interval.low <= population.difference <= interval.high
    assert 0.92 <= covered / SIMULATIONS <= 0.98


def test_equal_models_are_seldom_called_different() -> None:
    population = Population(torch.tensor([[2.0, 1.0, 0.0, -1.0]] * 2))
    draw = generator(8)
    different = 0
    for _ in range(SIMULATIONS):
        sample = population.counts[:, torch.randint(20_000, (60,), generator=draw)]
        # equal in law, not in every image: swapping the two image by image makes the true difference 0
        swapped = torch.where(torch.rand(60, generator=draw)[:, None, None] < 0.5, sample[0], sample[1])
        other = sample.sum(dim=0) - swapped
        interval = paired_bootstrap_interval(swapped, other, mean_iou, generator=draw, resamples=400)
        assert interval is not None
        different += interval.distinct
    assert different / SIMULATIONS <= 0.07


@pytest.mark.parametrize("folds", [3, 5])
def test_t_interval_covers_the_true_difference(folds: int) -> None:
    draw = np.random.default_rng(9)
    covered = different = 0
    for _ in range(SIMULATIONS):
        noise = draw.normal(0, 0.01, folds)
        shifted, equal = paired_t_interval((noise + 0.02).tolist()), paired_t_interval(noise.tolist())
        assert shifted is not None
        assert equal is not None
        covered += shifted.low <= 0.02 <= shifted.high
        different += equal.distinct
    assert 0.92 <= covered / SIMULATIONS <= 0.98
    assert different / SIMULATIONS <= 0.07
