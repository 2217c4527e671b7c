"""Quotas of the selection rules against sorting and counting, pixel by pixel."""

import math

import pytest
import torch

from evenseg.functional.labeling_rules import (
    CODES,
    alignment_bias,
    cbst_quota,
    crest_quota,
    st_fixed,
    st_threshold,
)


def predictions(count=3000, classes=4, seed=0):
    """Predicted classes and confidence codes, half of which are tied at 1.0, and their histogram."""
    g = torch.Generator().manual_seed(seed)
    label = torch.multinomial(torch.tensor([60.0, 30, 9, 1, 0][: classes + 1]), count, replacement=True, generator=g)
    confidence = (0.6 + 0.8 * torch.rand(count, generator=g)).clamp(max=1).half()
    code = confidence.view(torch.int16).long()
    return code, torch.bincount(label * CODES + code, minlength=(classes + 1) * CODES).view(classes + 1, CODES)


def test_codes_are_the_numbers_from_0_to_1_in_order():
    values = torch.arange(CODES, dtype=torch.int16).view(torch.float16).double()
    assert values[0] == 0
    assert values[-1] == 1
    assert (values.diff() > 0).all()


@pytest.mark.parametrize("ratio", [0.0, 1e-5, 0.001, 0.2, 0.5, 0.7, 1.0])
def test_st_threshold_is_the_last_of_the_most_confident(ratio):
    code, histogram = predictions()
    wanted = round(ratio * 1e6) * 3000 // 10**6
    in_order = code.sort(descending=True).values
    assert st_threshold(histogram, ratio) == (in_order[wanted - 1].item() if wanted else CODES)


def test_st_threshold_of_odd_histograms():
    one = torch.zeros(2, CODES, dtype=torch.int64)
    assert st_threshold(one, 0.5) == CODES
    one[1, 7] = 1
    assert st_threshold(one, 0.9) == CODES
    assert st_threshold(one, 1.0) == 7
    one[0, CODES - 1] = 3 * 10**9
    assert st_threshold(one, 1.0) == 7
    assert st_threshold(one, 0.999999) == CODES - 1


@pytest.mark.parametrize("confidence", [0.0, 0.3, 0.5, 0.9, 0.95, 0.9999, 1.0])
def test_st_fixed_loses_no_pixel_and_keeps_none_far_below(confidence):
    pixels = torch.cat([torch.linspace(0, 1, 5001), torch.tensor([confidence])])
    kept = pixels.half().view(torch.int16) >= st_fixed(confidence)
    assert kept[pixels >= confidence].all()
    assert not kept[pixels < confidence - 2.5e-4].any()


@pytest.mark.parametrize("confidence", [-0.1, 1.01, math.nan])
def test_st_fixed_refuses_what_is_no_confidence(confidence):
    with pytest.raises(ValueError, match="0 to 1"):
        st_fixed(confidence)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.29, 0.7, 1.0])
def test_cbst_keeps_the_same_share_of_every_class(ratio):
    _, histogram = predictions()
    predicted = histogram.sum(dim=1).tolist()
    quota = cbst_quota(histogram, ratio)
    assert quota.dtype == torch.int64
    assert quota.tolist() == [round(ratio * 100) * m // 100 for m in predicted]


def test_cbst_counts_beyond_float32():
    histogram = torch.zeros(1, CODES, dtype=torch.int64)
    histogram[0, 5:7] = 3 * 10**9 + 1
    assert cbst_quota(histogram, 0.5).tolist() == [3 * 10**9 + 1]


def test_crest_keeps_more_of_the_rarer():
    histogram = torch.zeros(4, CODES, dtype=torch.int64)
    histogram[:, 100] = 10**6
    frequency = torch.tensor([50, 8000, 1000, 0])  # ranks 3, 1, 2, none
    share = [1.0, (50 / 8000) ** (1 / 3), (1000 / 8000) ** (1 / 3), 0.0]
    assert crest_quota(histogram, frequency).tolist() == pytest.approx([s * 10**6 for s in share], abs=1)
    half = crest_quota(histogram, frequency, ratio=0.5, alpha=1.0)
    assert half.tolist() == [500000, 3125, 62500, 0]
    assert crest_quota(histogram, frequency, ratio=0.3, alpha=0.0).tolist() == [300000, 300000, 300000, 0]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_aligned_predictions_by_hand(power):
    """p * prior^power / mean, renormalised, with the shares of prior^power."""
    prob = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prob /= prob.sum(dim=1, keepdim=True)
    prior, mean = torch.tensor([70, 20, 10]), prob.mean(dim=0)
    aligned = (prob.log() + alignment_bias(prior, mean, power=power)).softmax(dim=1)
    target = [(share / 100) ** power for share in (70, 20, 10)]
    for row in range(5):
        raw = [float(prob[row, c]) * target[c] / sum(target) / float(mean[c]) for c in range(3)]
        assert aligned[row].tolist() == pytest.approx([each / sum(raw) for each in raw], rel=1e-4)


def test_alignment_with_a_class_that_is_missing():
    """In the labels it gets next to nothing, whatever the power; in the predictions it stays finite."""
    for power in (0.0, 1.0):
        bias = alignment_bias(torch.tensor([3, 1, 0]), torch.tensor([0.5, 0.0, 0.5]), power=power)
        assert bias.isfinite().all()
        assert bias.argmax() == 1
        assert bias[2] < -13


def test_crest_of_equally_frequent_classes_keeps_equally():
    _, histogram = predictions()
    assert torch.equal(crest_quota(histogram, torch.full((5,), 7)), histogram.sum(dim=1))
    assert crest_quota(histogram, torch.zeros(5)).tolist() == [0] * 5
