"""Choices and loss of U2PL's contrast against plain loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.negative_contrast import (
    choose_anchors,
    choose_negatives,
    class_means,
    likeliest_classes,
    negative_contrast,
    unlikely_classes,
)

C, N, D = 6, 200, 8


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 1 << 31, (N,), generator=generator)
    group = torch.randint(-1, C + 1, (N,), generator=generator)
    group[group == 4] = 3  # one class does not occur
    group[(group == 2).nonzero()[5:]] = 3  # of another there are few
    return group, noise


@pytest.mark.parametrize("quota", [1, 10, 500])
def test_anchors_are_those_of_the_smallest_noise(draw, quota):
    group, noise = draw
    chosen = choose_anchors(group, noise, num_classes=C, quota=quota)
    assert chosen.position.shape == chosen.noise.shape == chosen.used.shape == (C, quota)
    for c in range(C):
        pixels = (group == c).nonzero().flatten()
        expected = pixels[noise[pixels].argsort()[:quota]]
        assert chosen.used[c].sum() == len(expected)
        assert torch.equal(chosen.position[c][: len(expected)], expected)
        assert torch.equal(chosen.noise[c][: len(expected)], noise[expected])


def test_negatives_are_those_of_the_smallest_noise(draw):
    noise = draw[1].view(2, 100)
    candidate = torch.rand(2, C, 100, generator=torch.Generator().manual_seed(1)) < 0.2
    candidate[0, 1], candidate[1, 2, 3:] = False, False
    chosen = choose_negatives(candidate, noise, quota=7)
    for image in range(2):
        for c in range(C):
            pixels = candidate[image, c].nonzero().flatten()
            expected = pixels[noise[image, pixels].argsort()[:7]]
            assert torch.equal(chosen.position[image, c][chosen.used[image, c]], expected)
    assert choose_negatives(candidate, noise, quota=1000).used.sum() == candidate.sum()


@pytest.mark.parametrize(("low", "high"), [(3, 20), (1, 3), (2, 5), (4, 6), (5, 6), (6, 7)])
def test_ranks_are_those_of_sorting(low, high):
    """prob_indices[:, low:high].eq(c).any() of the official loss_helper.py."""
    logits = torch.randn(2, C, 50, generator=torch.Generator().manual_seed(2))
    order = logits.sort(dim=1, descending=True).indices
    for c in range(C):
        assert torch.equal(unlikely_classes(logits, low, high)[:, c], order[:, low:high].eq(c).any(1))
        assert torch.equal(likeliest_classes(logits, low)[:, c], order[:, :low].eq(c).any(1))


def test_means_of_classes(draw):
    group, _ = draw
    value = torch.randn(N, D, generator=torch.Generator().manual_seed(3))
    mean, count = class_means(value, group, num_classes=C)
    for c in range(C):
        assert count[c] == (group == c).sum()
        expected = value[group == c].mean(0) if count[c] else torch.zeros(D)
        torch.testing.assert_close(mean[c], expected)


def test_the_loss_is_cross_entropy_of_cosines():
    generator = torch.Generator().manual_seed(4)
    anchor = torch.randn(C, 5, D, generator=generator, requires_grad=True)
    positive, pool = torch.randn(C, D, generator=generator), torch.randn(C, 9, D, generator=generator)
    pick = torch.randint(0, 9, (C, 5, 4), generator=generator)
    share = torch.rand(C, 5, generator=generator)
    loss = negative_contrast(anchor, positive, F.normalize(pool, dim=2), pick, share, temperature=0.5)
    expected = torch.zeros(())
    for c in range(C):
        for i in range(5):
            everything = torch.cat([positive[c : c + 1], pool[c, pick[c, i]]])
            logits = torch.cosine_similarity(anchor[c, i][None], everything) / 0.5
            expected = expected + share[c, i] * F.cross_entropy(logits[None], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(torch.autograd.grad(loss, anchor), torch.autograd.grad(expected, anchor), strict=True):
        torch.testing.assert_close(got, wanted)
