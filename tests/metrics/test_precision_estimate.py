"""The estimate of precision: against a transcription, at its edges, and by simulating images whose truth is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from evenseg.metrics.precision_estimate import PRIOR_IMAGES, SMALLEST_CORRELATION, estimate_precision

BINS = 4
SIMULATIONS = 300


def world(
    images: int, *, accuracy: list[float], share: list[float], spread: float, seed: int, pixels: int = 300
) -> tuple[Tensor, Tensor]:
    """(N, C, K) kept and right pixels: images differ in size, in confidence and in how often a confidence is right.

    spread: of the log odds of being right from image to image.
    """
    draw = np.random.default_rng(seed)
    size = draw.poisson(pixels * draw.gamma(1.0, 1.0, (images, 1)))  # many images have little of the class
    mixture = draw.dirichlet(np.array(share) * 6, (images, 1))
    kept = np.floor(size[..., None] * mixture)
    odds = np.log(np.array(accuracy) / (1 - np.array(accuracy)))
    chance = 1 / (1 + np.exp(-(odds + draw.normal(0, spread, (images, 1, 1)))))
    return torch.from_numpy(kept).long(), torch.from_numpy(draw.binomial(kept.astype(int), chance)).long()


def transcription(kept: Tensor, right: Tensor, unlabeled: Tensor) -> tuple[float, float, float]:
    """The same for one class of (N, K) and (M, K) counts, in loops."""

    def expected(kept: Tensor, right: Tensor, unlabeled: Tensor) -> float:
        overall = float(right.sum()) / float(kept.sum())
        total = 0.0
        for b in range(kept.shape[1]):
            pixels = [float(n) for n in kept[:, b]]
            size = sum(pixels) ** 2 / sum(n * n for n in pixels) if sum(pixels) else 0.0
            raw = float(right[:, b].sum()) / sum(pixels) if sum(pixels) else 0.0
            total += float(unlabeled[:, b].sum()) * (size * raw + PRIOR_IMAGES * overall) / (size + PRIOR_IMAGES)
        return total / float(unlabeled.sum())

    def without(values: Tensor, index: int) -> Tensor:
        return torch.cat([values[:index], values[index + 1 :]])

    value, variance = expected(kept, right, unlabeled), 0.0
    shown = [i for i in range(len(kept)) if kept[i].sum()]
    gaps = [expected(without(kept, i), without(right, i), unlabeled) - value for i in shown]
    variance += (len(shown) - 1) / len(shown) * sum(gap * gap for gap in gaps)
    shown = [i for i in range(len(unlabeled)) if unlabeled[i].sum()]
    gaps = [expected(kept, right, without(unlabeled, i)) - value for i in shown]
    variance += (len(shown) - 1) / len(shown) * sum(gap * gap for gap in gaps)
    pixels = kept.sum(dim=1).double()
    images = float(pixels.sum() ** 2 / pixels.square().sum())
    size = min(value * (1 - value) / variance, images / SMALLEST_CORRELATION)
    size *= (stats.norm.ppf(0.025) / stats.t.ppf(0.025, images - 1)) ** 2
    low = stats.beta.ppf(0.025, size * value, size * (1 - value) + 1)
    return value, low, stats.beta.ppf(0.975, size * value + 1, size * (1 - value))


def test_estimate_against_loops():
    worlds = [world(40, accuracy=[0.3, 0.6, 0.8, 0.95], share=[1, 1, 2, 4], spread=0.2, seed=s) for s in range(3)]
    kept, right = (torch.cat(each, dim=1) for each in zip(*worlds, strict=True))
    unlabeled = torch.cat(
        [world(30, accuracy=[0.5] * 4, share=[2, 1, 1, 1], spread=0, seed=s + 9)[0] for s in range(3)], 1
    )
    kept[:25, 1] = right[:25, 1] = 0  # in fewer images
    kept[:, 2, 3] = right[:, 2, 3] = 0  # a confidence that no held-out image shows
    found = estimate_precision(kept, right, unlabeled)
    for c in range(3):
        value, low, high = transcription(kept[:, c], right[:, c], unlabeled[:, c])
        assert found.low[c].item() == pytest.approx(low, abs=1e-9)
        assert found.high[c].item() == pytest.approx(high, abs=1e-9)
        sure = value - low <= 0.05 and high - value <= 0.05
        assert found.value[c].item() == pytest.approx(value if sure else math.nan, abs=1e-9, nan_ok=True)
    assert found.images.tolist() == [int((kept[:, c].sum(dim=1) > 0).sum()) for c in range(3)]
    assert found.pixels.tolist() == kept.sum(dim=(0, 2)).tolist()


def test_confidence_carries_over_to_other_images():
    """Unlabeled images of which the teacher is less sure: their precision is estimated, not the held-out ones'."""
    accuracy = [0.2, 0.5, 0.8, 0.99]
    kept, right = world(300, accuracy=accuracy, share=[1, 1, 2, 8], spread=0, seed=0)
    unlabeled, truth = world(300, accuracy=accuracy, share=[6, 3, 2, 1], spread=0, seed=1)
    found = estimate_precision(kept, right, unlabeled)
    measured, wanted = (float(r.sum() / k.sum()) for r, k in ((right, kept), (truth, unlabeled)))
    assert abs(measured - wanted) > 0.3
    assert found.value.item() == pytest.approx(wanted, abs=0.02)


def counts(*images: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(N, 1, 1) kept and right pixels."""
    kept, right = torch.tensor(images).view(-1, 2).unbind(dim=1)
    return kept.view(-1, 1, 1), right.view(-1, 1, 1)


@pytest.mark.parametrize(
    ("held", "estimated", "interval"),
    [
        (counts(*[(200, 198)] * 100), True, True),
        (counts(*[(200, 198)] * 9), False, True),  # too few images for an estimate
        (counts(*[(30, 28)] * 20), False, True),  # too few pixels
        (counts(*[(200, 198), (200, 20)] * 10), False, True),  # too unlike one another
        (counts(*[(9000, 8900)] * 4), False, False),
        (counts(*[(10, 9)] * 9), False, False),
        (counts((0, 0)), False, False),
    ],
)
def test_what_can_be_told(held, estimated, interval):
    found = estimate_precision(*held, held[0])
    assert found.value.isfinite().item() == estimated
    assert found.low.isfinite().item() == found.high.isfinite().item() == interval
    if estimated:
        assert found.low <= found.value <= found.high


def test_an_image_without_the_class_says_nothing():
    held = counts(*[(200, 150), (100, 90), (300, 240)] * 5)
    more = [torch.cat([value, torch.zeros(30, 1, 1, dtype=torch.int64)]) for value in held]
    for mine, theirs in zip(estimate_precision(*held, held[0]), estimate_precision(*more, more[0]), strict=True):
        assert torch.allclose(mine, theirs, equal_nan=True)


@pytest.mark.parametrize(("right", "end"), [(200, "high"), (0, "low")])
def test_all_right_and_all_wrong_leave_room(right, end):
    held = counts(*[(200, right)] * 12)
    found = estimate_precision(*held, held[0])
    assert getattr(found, end).item() == right / 200
    assert 0.05 < found.high.item() - found.low.item() < 0.25


def test_no_unlabeled_pseudo_label_of_a_class():
    held = counts(*[(200, 190)] * 20)
    assert estimate_precision(*held, torch.zeros(5, 1, 1, dtype=torch.int64)).low.isnan().all()


@pytest.mark.parametrize("images", [8, 20, 80])
@pytest.mark.parametrize("accuracy", [[0.3, 0.5, 0.7, 0.9], [0.8, 0.9, 0.97, 0.995]], ids=["poor", "good"])
def test_intervals_cover_the_truth(images, accuracy):
    options = {"accuracy": accuracy, "share": [1.0, 1.0, 2.0, 3.0], "spread": 3.0}
    everything, hits = world(100_000, seed=99, **options)
    truth = float(hits.sum() / everything.sum())
    worlds = [world(images, seed=seed, **options) for seed in range(SIMULATIONS)]
    kept, right = (torch.cat(each, dim=1) for each in zip(*worlds, strict=True))  # every simulation as a class
    unlabeled = torch.cat([world(images, seed=SIMULATIONS + s, **options)[0] for s in range(SIMULATIONS)], dim=1)
    found = estimate_precision(kept, right, unlabeled)
    told = found.low.isfinite()
    covered = ((found.low <= truth) & (truth <= found.high))[told].double().mean()
    assert told.double().mean() > 0.9
    assert covered >= 0.9
    if images >= 20 and accuracy[0] < 0.5:  # elsewhere the least correlation that is assumed makes them wider
        assert covered <= 0.99


def test_estimates_that_are_given_are_within_five_points():
    options = {"accuracy": [0.8, 0.9, 0.97, 0.995], "share": [1.0, 1.0, 2.0, 3.0], "spread": 1.0}
    everything, hits = world(100_000, seed=99, **options)
    worlds = [world(120, seed=seed, **options) for seed in range(SIMULATIONS)]
    kept, right = (torch.cat(each, dim=1) for each in zip(*worlds, strict=True))
    found = estimate_precision(kept, right, kept)
    given = found.value[found.value.isfinite()]
    assert len(given) > 0.3 * SIMULATIONS
    assert ((given - float(hits.sum() / everything.sum())).abs() <= 0.05).double().mean() >= 0.95
