"""Logit adjustment, balanced softmax, alignment and BLV against their formulas, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.class_prior import adjust_logits, labeled_share, rarity, shift_prob, vary_logits
from evenseg.functional.labeling_rules import alignment_bias

COUNTS = torch.tensor([900, 90, 10, 0])


def test_a_class_without_a_pixel_counts_as_one_with_one():
    assert labeled_share(COUNTS).tolist() == pytest.approx([900 / 1001, 90 / 1001, 10 / 1001, 1 / 1001])


def test_cross_entropy_of_adjusted_logits_is_the_balanced_softmax():
    g = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 4, 3, 5, generator=g), torch.randint(0, 4, (2, 3, 5), generator=g)
    found = F.cross_entropy(adjust_logits(logits, labeled_share(COUNTS)), label, reduction="none")
    n = COUNTS.clamp(min=1).tolist()
    for b in range(2):
        for y in range(3):
            for x in range(5):
                z = [n[c] * math.exp(logits[b, c, y, x]) for c in range(4)]
                assert found[b, y, x].item() == pytest.approx(-math.log(z[label[b, y, x]] / sum(z)), rel=1e-4)


def test_tau_is_a_power_of_the_shares_and_the_gradient_passes():
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)
    share = labeled_share(COUNTS)
    adjusted = adjust_logits(logits, share, tau=0.3)
    torch.testing.assert_close(adjusted.softmax(1), shift_prob(logits.softmax(1), 0.3 * share.log()))
    torch.testing.assert_close(adjust_logits(logits, share, tau=0.0), logits)
    adjusted.sum().backward()
    assert torch.equal(logits.grad, torch.ones_like(logits))


def test_adjusted_pseudo_labels_are_those_of_balanced_classes():
    """Where classes are told apart by p(x | y) alone, taking out the prior leaves just that."""
    likelihood = torch.tensor([0.2, 0.5, 0.3, 0.1])
    share = labeled_share(COUNTS)
    posterior = (likelihood * share / (likelihood * share).sum()).view(1, 4, 1, 1)
    balanced = shift_prob(posterior, -share.log()).flatten()
    torch.testing.assert_close(balanced, likelihood / likelihood.sum())


def test_what_a_pixel_sums_to_stays():
    prob = torch.rand(2, 4, 3, 3)
    prob[0, :, 0, 0] = 0
    shifted = shift_prob(prob, torch.tensor([0.0, 50.0, -80.0, 3.0]))
    torch.testing.assert_close(shifted.sum(1), prob.sum(1))
    assert shifted.isfinite().all()


def test_alignment_multiplies_by_wanted_over_mean():
    prob = torch.rand(1, 4, 5, 5).softmax(1)
    wanted, mean = labeled_share(COUNTS), torch.tensor([0.7, 0.1, 0.1, 0.1])
    expected = prob * (wanted / mean).view(1, 4, 1, 1)
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(shift_prob(prob, alignment_bias(wanted, mean)), expected, rtol=1e-2, atol=1e-4)


def test_rarity_is_the_share_of_the_largest_information():
    share = labeled_share(COUNTS)
    n, total = COUNTS.clamp(min=1).tolist(), 1001
    largest = max(math.log(total / each) for each in n)
    assert rarity(share).tolist() == pytest.approx([math.log(total / each) / largest for each in n], rel=1e-5)
    assert rarity(torch.tensor([1.0, 0.0])).isfinite().all()
    assert rarity(torch.ones(1)).tolist() == [0.0]


def test_noise_is_the_clamped_normal_by_class():
    g = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(2, 3, 64, 64, generator=g), torch.rand(2, 3, 64, 64, generator=g)
    scale = torch.tensor([0.0, 0.5, 1.0])
    noise = vary_logits(logits, uniform, scale, sigma=0.5) - logits
    assert noise[:, 0].abs().max() < 1e-6
    assert (noise >= -1e-6).all()
    assert (noise <= scale.view(1, 3, 1, 1) + 1e-6).all()
    drawn = torch.randn(200_000, generator=g).mul(0.5).clamp(-1, 1).abs()
    assert noise[:, 2].mean().item() == pytest.approx(drawn.mean().item(), rel=0.02)
    assert noise[:, 2].std().item() == pytest.approx(drawn.std().item(), rel=0.02)
    assert noise[:, 1].mean().item() == pytest.approx(drawn.mean().item() / 2, rel=0.02)
    assert (noise[:, 2] > 1 - 1e-6).float().mean().item() == pytest.approx((drawn == 1).float().mean().item(), abs=0.01)


def test_without_sigma_there_is_no_noise():
    logits = torch.randn(1, 3, 4, 4)
    assert torch.equal(vary_logits(logits, torch.rand(1, 3, 4, 4), torch.ones(3), sigma=0.0), logits)
