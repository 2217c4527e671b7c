"""DCRS: thresholds after Eq. 6, the pixels they keep, and when they stand still."""

from __future__ import annotations

import pytest
import torch

from evenseg.components.dynamic_region import DynamicRegion
from evenseg.functional import random
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import NetworkOutput, PseudoTarget, Step

CLASSES = 3
STEP = Step(0, 10, random.generator(0))
WIDTH = 2.5e-4  # of the widest bin


@pytest.fixture(scope="module")
def network():
    return SegmentationNetwork("linknet", "tu-test_efficientnet", num_classes=CLASSES)


@pytest.fixture
def make(network):
    def made(*arguments, **options):
        region = DynamicRegion(*arguments, **options)
        region.attach(network)
        return region

    return made


def target_of(confidence, label, valid=None):
    """A target of these confidences and labels, (H, W) each."""
    prob = ((1 - confidence) / (CLASSES - 1)).unsqueeze(0).repeat(CLASSES, 1, 1)
    prob.scatter_(0, label.unsqueeze(0), confidence.unsqueeze(0))
    weight = torch.ones_like(confidence) if valid is None else valid.float()
    return PseudoTarget(prob[None], weight[None], None if valid is None else valid[None])


def refine(region, *arguments):
    target = target_of(*arguments)
    return region.refine(target, NetworkOutput(target.prob), STEP).weight[0]


def case(seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (20, 30), generator=g)  # class 2 is never predicted
    return 0.5 + 0.499 * torch.rand(20, 30, generator=g), label


def by_sorting(confidence, label, ratio, c):
    values = sorted(confidence[label == c].tolist(), reverse=True)
    return values[min(int(ratio * 10) * len(values) // 10, len(values) - 1)]


def test_thresholds_are_moving_averages_of_order_statistics(make):
    region = make(0.8, momentum=0.7)
    expected = [0.9, 0.9, 0.9]
    for seed in range(4):
        confidence, label = case(seed)
        weight = refine(region, confidence, label)
        for c in (0, 1):
            expected[c] = 0.7 * expected[c] + 0.3 * by_sorting(confidence, label, 0.8, c)
        assert region.threshold.tolist() == pytest.approx(expected, abs=WIDTH)
        assert torch.equal(weight, (confidence >= region.threshold[label]).float())
    assert region.threshold[2] == torch.tensor(0.9)


def test_a_constant_batch_is_approached_geometrically(make):
    region = make(0.8)
    confidence, label = case()
    (limit,) = {by_sorting(confidence, label, 0.8, 0)}
    for k in range(1, 6):
        refine(region, confidence, label)
        assert region.threshold[0].item() == pytest.approx(limit + 0.9**k * (0.9 - limit), abs=WIDTH)


def test_the_first_observation_can_be_the_start(make):
    region = make(0.8, initial=None)
    confidence, label = case()
    weight = refine(region, confidence, label)
    for c in (0, 1):
        assert region.threshold[c].item() == pytest.approx(by_sorting(confidence, label, 0.8, c), abs=WIDTH)
        count = int((label == c).sum())
        assert int(weight[label == c].sum()) == pytest.approx(8 * count // 10 + 1, abs=1)
    assert region.known.tolist() == [1, 1, 0]
    refine(region, confidence, torch.full_like(label, 2))
    assert region.known.tolist() == [1, 1, 1]
    assert region.threshold[2].item() == pytest.approx(
        by_sorting(confidence, torch.zeros_like(label), 0.8, 0), abs=WIDTH
    )


def test_pixels_outside_of_the_images_move_nothing(make):
    inside, everywhere = make(0.8), make(0.8)
    confidence, label = case()
    valid = torch.ones_like(label, dtype=torch.bool)
    valid[:, 15:] = False
    refine(inside, confidence, label, valid)
    refine(everywhere, confidence[:, :15], label[:, :15])
    assert torch.equal(inside.threshold, everywhere.threshold)


def test_weights_are_multiplied(make):
    region = make(0.5)
    confidence, label = case()
    target = target_of(confidence, label)
    target = target._replace(weight=torch.rand_like(target.weight))
    refined = region.refine(target, NetworkOutput(target.prob), STEP)
    kept = confidence >= region.threshold[label]
    assert torch.equal(refined.weight[0], target.weight[0] * kept)
    assert 0 < kept.float().mean() < 1


def test_in_eval_mode_thresholds_select_but_stand_still(make):
    region = make(0.8).eval()
    confidence, label = case()
    weight = refine(region, confidence, label)
    assert (region.threshold == torch.tensor(0.9)).all()
    assert torch.equal(weight, (confidence >= 0.9).float())


def test_a_ratio_of_one_is_off(make):
    region = make(1.0)
    confidence, label = case()
    assert (refine(region, confidence, label) == 1).all()
    assert (region.threshold == torch.tensor(0.9)).all()
    assert region.figures() == {}
    assert make(0.9).figures()["region_threshold"].shape == (CLASSES,)


def test_hard_power_keeps_less_of_unsure_classes(make):
    region = make(0.8, initial=0.5, hard_power=1.0, momentum=0.0)
    confidence, label = case()
    refine(region, confidence, label)
    values = sorted(confidence[label == 0].tolist(), reverse=True)
    assert region.threshold[0].item() == pytest.approx(values[4 * len(values) // 10], abs=WIDTH)
