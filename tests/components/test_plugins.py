"""Logit adjustment, BLV noise, the adaptive threshold and distribution alignment in a method's step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evenseg.components.adaptive_threshold import AdaptiveThreshold
from evenseg.components.distribution_alignment import DistributionAlignment
from evenseg.components.logit_adjustment import LogitAdjustment
from evenseg.components.logit_noise import LogitNoise
from evenseg.functional.class_prior import labeled_share, rarity, vary_logits
from evenseg.functional.random import slot_rand
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import NetworkOutput, PseudoTarget, StepViews

from ..contract.conftest import facts, make_batch, make_method, make_step

COUNTS = facts().class_frequency


def target_of(seed=0, classes=5):
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 6, 8, generator=g)
    valid = torch.rand(2, 6, 8, generator=g) < 0.8
    return PseudoTarget.from_logits(logits, valid), NetworkOutput(logits)


def losses(component, host="fixmatch", **options):
    spec = {"name": host, "threshold": 0.0, **options, "components": [component] if component else []}
    method = make_method(spec)
    return method, method(make_batch(method), make_step(3)).losses


@pytest.mark.parametrize("host", ["supervised", "fixmatch"])
def test_the_supervised_loss_is_the_balanced_softmax(host):
    spec = {"name": host, "components": ["logit_adjustment"]}
    method, plain = make_method(spec), make_method({"name": host})
    batch = make_batch(method)
    logits = plain.student(batch.labeled.image).logits
    expected = F.cross_entropy(
        logits + labeled_share(COUNTS).log()[:, None, None], batch.labeled.label, ignore_index=255
    )
    found = method(batch, make_step(3)).losses["supervised"]
    assert found.item() == pytest.approx(expected.item() * (0.5 if host == "fixmatch" else 1.0), rel=1e-5)


def test_which_losses_are_adjusted():
    _, plain = losses(None)
    _, labeled = losses({"name": "logit_adjustment", "losses": "labeled"})
    _, both = losses("logit_adjustment")
    assert plain["supervised"] != labeled["supervised"] == both["supervised"]
    assert plain["unsupervised"] == labeled["unsupervised"] != both["unsupervised"]


@pytest.mark.parametrize("name", ["logit_adjustment", "blv_noise"])
def test_nothing_changes_at_inference_and_in_the_teacher(name):
    plain, method = make_method({"name": "cutmix_seg"}), make_method({"name": "cutmix_seg", "components": [name]})
    image = make_batch(method).unlabeled.weak
    for own, other in zip(plain.predictors().values(), method.predictors().values(), strict=True):
        assert torch.equal(own.eval()(image), other.eval()(image))
    assert torch.equal(plain.pseudo_target(image, make_step(0)).prob, method.pseudo_target(image, make_step(0)).prob)


def test_adjusted_pseudo_labels_use_the_shares():
    target, weak = target_of()
    part = LogitAdjustment(losses="none", pseudo_labels=True, tau=0.7, class_frequency=COUNTS)
    expected = (weak.logits - 0.7 * labeled_share(COUNTS).log()[:, None, None]).softmax(1)
    torch.testing.assert_close(part.refine(target, weak, make_step(0)).prob, expected)
    with pytest.raises(ValueError, match="nothing is adjusted"):
        LogitAdjustment(losses="none", class_frequency=COUNTS)


def test_running_shares_are_those_of_valid_pixels_before_they_are_adjusted():
    target, weak = target_of()
    part = LogitAdjustment(pseudo_labels=True, share="predicted", momentum=0.6, class_frequency=COUNTS)
    refined = part.refine(target, weak, make_step(0))
    counted = torch.tensor([((target.label == c) & target.valid).sum() for c in range(5)]).float()
    share = 0.6 * labeled_share(COUNTS) + 0.4 * counted / counted.sum()
    torch.testing.assert_close(part.predicted.value, share)
    torch.testing.assert_close(refined.prob, (weak.logits - share.log()[:, None, None]).softmax(1))
    part.eval()
    part.refine(*target_of(1), make_step(1))
    torch.testing.assert_close(part.predicted.value, share)
    part.train()
    nowhere = target._replace(valid=torch.zeros_like(target.valid))
    part.refine(nowhere, weak, make_step(2))
    torch.testing.assert_close(part.predicted.value, share)


def test_noise_is_keyed_by_the_image_and_differs_between_losses():
    part = LogitNoise(class_frequency=COUNTS)
    logits, step = torch.randn(4, 5, 6, 6), make_step(2)
    whole = part.adjust(logits, step, labeled=True)
    uniform = slot_rand(0, 2, 0, (4, 5, 6, 6), stream="logit noise labeled")
    torch.testing.assert_close(whole, vary_logits(logits, uniform, rarity(labeled_share(COUNTS))))
    later = part.adjust(logits[2:], step._replace(labeled_slot=2), labeled=True)
    assert torch.equal(later, whole[2:])
    assert not torch.equal(whole, part.adjust(logits, step, labeled=False))
    assert not torch.equal(whole, part.adjust(logits, make_step(3), labeled=True))
    assert LogitNoise(unlabeled="none", class_frequency=COUNTS).adjust(logits, step, labeled=False) is logits


def test_noise_follows_the_pseudo_labels():
    part = LogitNoise(momentum=0.0, class_frequency=COUNTS)
    target, weak = target_of()
    assert part.refine(target, weak, make_step(0)) is target
    counted = torch.tensor([((target.label == c) & target.valid).sum() for c in range(5)]).float()
    torch.testing.assert_close(part.figures()["class_rarity"], rarity(counted / counted.sum()))


@pytest.mark.parametrize("per_class", [False, True])
def test_the_threshold_follows_the_surest_valid_pixels(per_class):
    part = AdaptiveThreshold(momentum=0.75, initial=0.6, per_class=per_class)
    part.attach(SegmentationNetwork("linknet", "tu-test_efficientnet", num_classes=5))
    target, weak = target_of()
    refined = part.refine(target, weak, make_step(0))
    confidence, label = target.hard()
    sure = [confidence[(label == c) & target.valid].max() for c in range(5)]  # all five are predicted
    expected = 0.75 * 0.6 + 0.25 * torch.stack(sure if per_class else [sum(sure) / 5])
    torch.testing.assert_close(part.threshold.view(-1), expected)
    limit = part.threshold[label] if per_class else part.threshold
    assert torch.equal(refined.weight, target.weight * (confidence >= limit))
    part.eval()
    part.refine(*target_of(1), make_step(1))
    torch.testing.assert_close(part.threshold.view(-1), expected)


def test_alignment_brings_the_mean_to_the_wanted_shares():
    part = DistributionAlignment(momentum=0.0, class_frequency=COUNTS)
    target, weak = target_of()
    everywhere = target._replace(valid=None)
    mean = target.prob.mean((0, 2, 3))
    wanted = labeled_share(COUNTS)
    expected = target.prob * (wanted / mean)[:, None, None]
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(part.refine(everywhere, weak, make_step(0)).prob, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(part.mean.value, mean)


def test_alignment_starts_without_effect_and_can_follow_predictions_on_labeled_images():
    part = DistributionAlignment(wanted="predictions", momentum=0.5, class_frequency=COUNTS)
    target, weak = target_of()
    part.eval()
    torch.testing.assert_close(part.refine(target, weak, make_step(0)).prob, target.prob)
    part.train()
    label = torch.zeros(2, 6, 8, dtype=torch.int64)
    label[:, :3] = 255
    part.update(StepViews(label, weak), make_step(0))
    mean = weak.logits.softmax(1)[:, :, 3:].mean((0, 2, 3))
    torch.testing.assert_close(part.target.value, 0.5 * labeled_share(COUNTS) + 0.5 * mean)
