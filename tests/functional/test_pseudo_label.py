"""Thresholds per class against sorting, and what they keep."""

from itertools import pairwise

import pytest
import torch

from evenseg.functional.pseudo_label import class_thresholds, confidence_histogram, histogram_thresholds

WIDTH = 2.5e-4  # of the widest bin


def by_sorting(confidence, label, ratio, num_classes):
    """Entry min(floor(ratio n), n - 1) of the descending confidences of each class."""
    thresholds = []
    for c in range(num_classes):
        values = sorted(confidence[label == c].tolist(), reverse=True)
        entry = min(round(ratio * 1e6) * len(values) // 10**6, len(values) - 1)
        thresholds.append(values[entry] if values else float("inf"))
    return thresholds


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (2, 30, 40), generator=g)
    label[label == 2] = 255
    return torch.rand(2, 30, 40, generator=g), label


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.7, 0.8, 0.999999, 1.0])
def test_equals_sorting_to_a_bin(case, ratio):
    confidence, label = case
    got = class_thresholds(confidence, label, ratio, num_classes=4).tolist()
    expected = by_sorting(confidence, label, ratio, 4)
    assert got[2] == expected[2] == float("inf")
    for ours, theirs in zip(got, expected, strict=True):
        if theirs < 2:
            assert theirs - WIDTH <= ours <= theirs


def test_precision_is_that_of_float32_where_the_teacher_is_certain():
    certain = 1 - torch.rand(5000, generator=torch.Generator().manual_seed(0)) * 1e-6
    got = class_thresholds(certain, torch.zeros(5000, dtype=torch.int64), 0.5, num_classes=1)
    assert got.item() == pytest.approx(by_sorting(certain, torch.zeros(5000), 0.5, 1)[0], abs=5e-7)


@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.8])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 100, 1001])
def test_distinct_confidences_are_kept_to_the_pixel(ratio, count):
    confidence = 0.3 + 0.69 * torch.randperm(count) / count
    limit = class_thresholds(confidence, torch.zeros(count, dtype=torch.int64), ratio, num_classes=1)
    assert int((confidence >= limit).sum()) == min(int(ratio * 10) * count // 10 + 1, count)


def test_a_ratio_of_one_keeps_everything_and_larger_ones_never_keep_less(case):
    confidence, label = case
    limits = [class_thresholds(confidence, label, ratio / 20, num_classes=4) for ratio in range(21)]
    for fewer, more in pairwise(limits):
        assert (more <= fewer).all()
    assert (confidence >= limits[-1][label.clamp(max=3)])[label < 4].all()


def test_ties_are_all_kept():
    confidence = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0])
    label = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    limit = class_thresholds(confidence, label, 0.2, num_classes=2)
    assert (confidence >= limit[label]).all()


def test_classes_are_independent_and_relabelling_permutes(case):
    confidence, label = case
    before = class_thresholds(confidence, label, 0.8, num_classes=4)
    moved = torch.where(label == 1, confidence / 2, confidence)
    assert torch.equal(class_thresholds(moved, label, 0.8, num_classes=4)[[0, 3]], before[[0, 3]])
    order = torch.tensor([3, 0, 2, 1])
    relabelled = torch.where(label < 4, order[label.clamp(max=3)], label)
    assert torch.equal(class_thresholds(confidence, relabelled, 0.8, num_classes=4)[order], before)


def test_a_frequent_and_a_rare_class_of_like_confidence_keep_the_same_share():
    confidence = torch.linspace(0.4, 0.99, 50)
    confidence = torch.cat([confidence.repeat(1000), confidence])
    label = (torch.arange(len(confidence)) >= 50_000).long()
    limit = class_thresholds(confidence, label, 0.8, num_classes=2)
    assert limit[0] == pytest.approx(limit[1].item(), abs=0.59 / 49 + WIDTH)
    kept = confidence >= limit[label]
    assert kept[:50_000].float().mean() == pytest.approx(kept[50_000:].float().mean().item(), abs=1 / 50)


def test_one_ratio_for_each_class(case):
    confidence, label = case
    ratio = torch.tensor([0.2, 0.5, 0.9, 1.0])
    got = class_thresholds(confidence, label, ratio, num_classes=4)
    for c in (0, 1, 3):
        assert got[c] == class_thresholds(confidence, label, ratio[c].item(), num_classes=4)[c]


def test_sums_of_histograms_are_histograms_of_everything(case):
    confidence, label = case
    whole = confidence_histogram(confidence, label, num_classes=4)
    parts = [confidence_histogram(confidence[i], label[i], num_classes=4) for i in range(2)]
    assert torch.equal(whole, parts[0] + parts[1])
    assert whole.sum() == (label < 4).sum()
    assert torch.equal(histogram_thresholds(whole, 0.8), class_thresholds(confidence, label, 0.8, num_classes=4))


def test_the_ends_of_the_range():
    confidence, label = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0, 1, 255])
    counts = confidence_histogram(confidence, label, num_classes=2, bins=16)
    assert counts[0].nonzero().tolist() == [[0]]
    assert counts[1].nonzero().tolist() == [[15]]
    limits = class_thresholds(confidence, label, 0.8, num_classes=3)
    assert limits[0] == 0
    assert 0.999999 < limits[1] <= 1
    assert limits[2] == float("inf")
