"""Prototypes against Eq. 6 and 12, and the re-weighting against Eq. 7-8."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.losses import pixel_cross_entropy, weighted_mean
from evenseg.functional.prototypes import (
    ClassMean,
    class_means,
    moved_prototypes,
    pairwise_cosines,
    prototype_logits,
    simplex,
)
from evenseg.functional.reweighting import class_mean_loss, confidence_weight

C, D = 4, 6


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed=0, ignored=True):
    label = torch.randint(0, C, (3, 5, 5), generator=torch.Generator().manual_seed(seed))
    if ignored:
        label[0, :2] = 255
    return label


def test_logits_are_cosines_over_the_temperature():
    feature, prototypes = made(2, D, 3, 3), made(C, D, seed=1)
    logits = prototype_logits(feature, prototypes, temperature=0.3)
    for b, c, y, x in ((0, 0, 0, 0), (1, 3, 2, 1)):
        f, p = feature[b, :, y, x].tolist(), prototypes[c].tolist()
        dot = sum(u * v for u, v in zip(f, p, strict=True))
        expected = dot / math.hypot(*f) / math.hypot(*p) / 0.3
        assert logits[b, c, y, x].item() == pytest.approx(expected, rel=1e-5)


def test_lengths_change_nothing_and_precision_is_float32():
    feature, prototypes = made(2, D, 3, 3), made(C, D, seed=1)
    logits = prototype_logits(feature, prototypes, temperature=0.1)
    scaled = prototype_logits(feature * (made(2, 1, 3, 3, seed=2).abs() + 0.1), 7 * prototypes, temperature=0.1)
    torch.testing.assert_close(scaled, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prototype_logits(feature.bfloat16(), prototypes, temperature=0.1).dtype == torch.float32
    assert prototype_logits(torch.zeros(1, D, 1, 1), prototypes, temperature=0.1).abs().sum() == 0


def test_without_a_temperature_no_probability_is_large():
    prob = prototype_logits(simplex(C, D)[:, :, None, None], simplex(C, D), temperature=1.0).softmax(1)
    assert prob.amax() <= math.e / (math.e + (C - 1) / math.e)
    sharp = prototype_logits(made(9, D, 1, 1), made(C, D), temperature=1e-3)
    assert torch.equal(sharp.argmax(1), prototype_logits(made(9, D, 1, 1), made(C, D), temperature=1.0).argmax(1))
    assert (sharp.softmax(1).amax(1) > 0.99).float().mean() > 0.8


def test_centered_cosines():
    feature, prototypes, center = made(1, D, 1, 1), F.normalize(made(C, D, seed=1), dim=1), made(D, seed=2) / 4
    logits = prototype_logits(feature, prototypes, temperature=0.5, center=center)
    expected = F.cosine_similarity(F.normalize(feature[0, :, 0, 0], dim=0) - center, prototypes - center, dim=1) / 0.5
    torch.testing.assert_close(logits[0, :, 0, 0], expected)


@pytest.mark.parametrize(("classes", "dimension"), [(4, 4), (4, 9), (2, 3), (1, 2)])
def test_a_simplex_has_equal_angles(classes, dimension):
    rows = simplex(classes, dimension, generator=torch.Generator().manual_seed(0))
    expected = torch.full((classes, classes), -1 / max(classes - 1, 1)).fill_diagonal_(1)
    torch.testing.assert_close(rows @ rows.T, expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="dimensions"):
        simplex(4, 3)


@pytest.mark.parametrize("normalize", [True, False])
def test_means_are_those_of_a_loop(normalize):
    feature, label, weight = made(3, D, 5, 5), labels(), made(3, 5, 5, seed=3).abs()
    label[label == 2] = 1  # class 2 does not occur
    mean = class_means(feature, label, weight, C, normalize=normalize)
    assert mean.present.tolist() == [True, True, False, True]
    for c in (0, 1, 3):
        total = torch.zeros(D)
        for b, y, x in (label == c).nonzero().tolist():
            f = feature[b, :, y, x]
            total += weight[b, y, x] * (f / f.norm() if normalize else f)
        torch.testing.assert_close(mean.value[c], total / total.norm() if normalize else total)


def test_prototypes_move_by_the_formula_and_absent_ones_not_at_all():
    prototypes, value = F.normalize(made(C, D), dim=1), F.normalize(made(C, D, seed=1), dim=1)
    value[3] = math.nan
    mean = ClassMean(value, torch.tensor([True, False, True, True]))
    moved, moves = moved_prototypes(prototypes, mean, 0.9)
    assert moves.tolist() == [True, False, True, False]
    for c in (0, 2):
        expected = 0.9 * prototypes[c] + 0.1 * value[c]
        torch.testing.assert_close(moved[c], expected / expected.norm())
    assert torch.equal(moved[[1, 3]], prototypes[[1, 3]])
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(C))
    assert torch.equal(moved_prototypes(prototypes, mean, 1.0)[0], prototypes)
    torch.testing.assert_close(moved_prototypes(prototypes, mean, 0.0)[0][0], value[0])
    each = torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert moved_prototypes(prototypes, mean, each)[1].tolist() == [True, False, False, False]
    raw, _ = moved_prototypes(2 * prototypes, mean, 0.5, normalize=False)
    torch.testing.assert_close(raw[0], prototypes[0] + 0.5 * value[0])


def test_cosines_of_all_pairs_but_unknown_ones():
    prototypes = torch.tensor([[1.0, 0], [0, 2], [3, 3], [-1, 0]])
    mean, nearest = pairwise_cosines(prototypes, torch.tensor([True, True, True, False]))
    half = math.sqrt(0.5)
    assert mean.item() == pytest.approx(2 * half / 3)
    torch.testing.assert_close(nearest, torch.tensor([half, half, half, -1.0]))


@pytest.mark.parametrize("source", ["max", "gt"])
@pytest.mark.parametrize("normalize", ["image", "batch"])
def test_reweighted_loss_is_the_formula(source, normalize):
    logits, label = 2 * made(3, C, 5, 5), labels()
    label[2] = 255  # an image without a label
    pixel = pixel_cross_entropy(logits, label)
    weight = confidence_weight(logits, pixel, label, gamma=2.0, source=source, normalize=normalize)
    prob = logits.softmax(1)
    raw = torch.zeros(3, 5, 5)
    for b, y, x in (label != 255).nonzero().tolist():
        p = prob[b, :, y, x].max() if source == "max" else prob[b, label[b, y, x], y, x]
        raw[b, y, x] = (1 - p) ** 2
    sums = raw.sum(dim=(1, 2), keepdim=True) if normalize == "image" else raw.sum()
    expected = torch.where(raw > 0, raw / sums, 0.0)
    torch.testing.assert_close(weight, expected)
    per_image = (expected * pixel).sum(dim=(1, 2))
    loss = weighted_mean(pixel, weight, label != 255, normalize=normalize, empty_images="skip")
    torch.testing.assert_close(loss, per_image.sum() / 2 if normalize == "image" else per_image.sum())


def test_where_all_is_certain_weights_are_equal():
    label = labels()
    logits = 100 * F.one_hot(label.clamp(max=C - 1), C).permute(0, 3, 1, 2).float()
    weight = confidence_weight(logits, pixel_cross_entropy(logits, label), label)
    torch.testing.assert_close(weight.sum(dim=(1, 2)), torch.ones(3))
    assert (weight[label == 255] == 0).all()
    assert weight[0].unique().numel() == 2
    even = confidence_weight(made(3, C, 5, 5), pixel_cross_entropy(made(3, C, 5, 5), label), label, gamma=0.0)
    torch.testing.assert_close(even[1], torch.full((5, 5), 1 / 25))


def test_ignored_pixels_do_not_matter():
    logits, label = made(1, C, 5, 5), labels(ignored=False)[:1]
    wider = F.pad(logits, (0, 3), value=2.0), F.pad(label, (0, 3), value=255)
    one = confidence_weight(logits, pixel_cross_entropy(logits, label), label)
    two = confidence_weight(wider[0], pixel_cross_entropy(*wider), wider[1])
    torch.testing.assert_close(two[..., :5], one)


def test_mean_over_classes():
    pixel, label = made(3, 5, 5).abs().requires_grad_(), labels()
    label[label == 2] = 1
    loss = class_mean_loss(pixel, label, torch.ones(3, 5, 5), C)
    torch.testing.assert_close(loss, torch.stack([pixel[label == c].mean() for c in (0, 1, 3)]).mean())
    empty = class_mean_loss(pixel, torch.full_like(label, 255), torch.ones(3, 5, 5), C)
    empty.backward()
    assert empty == 0
    assert pixel.grad.abs().sum() == 0
