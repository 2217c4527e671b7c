"""Losses against transcriptions of their formulas, pixel by pixel."""

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional import losses


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 4, 5, 6, generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (3, 5, 6), generator=generator)
    label[torch.rand(3, 5, 6, generator=generator) < 0.2] = 255
    weight = torch.rand(3, 5, 6, generator=generator)
    return logits, label, weight


def pixels(logits, label):
    """(image, -log p[label]) of every valid pixel, by the definition of softmax."""
    for b, y, x in torch.nonzero(label != 255).tolist():
        row = logits[b, :, y, x].double()
        yield b, y, x, float(torch.log(torch.exp(row).sum()) - row[label[b, y, x]])


def test_cross_entropy_is_the_mean_over_valid_pixels(case):
    logits, label, _ = case
    values = [ce for *_, ce in pixels(logits.detach(), label)]
    assert losses.cross_entropy(logits, label).item() == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_cross_entropy_of_nothing_is_a_connected_zero(case):
    logits, label, _ = case
    loss = losses.cross_entropy(logits, torch.full_like(label, 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("normalize", ["image", "batch", "valid"])
def test_weighted_cross_entropy(case, normalize):
    logits, label, weight = case
    weight[1] = 0  # an image without weight
    terms = [(b, float(weight[b, y, x]), ce) for b, y, x, ce in pixels(logits.detach(), label)]
    if normalize == "image":  # AEL Eq. 12
        expected = 0.0
        for image in range(3):
            mass = sum(w for b, w, _ in terms if b == image)
            expected += sum(w * ce for b, w, ce in terms if b == image) / mass / 3 if mass else 0.0
    elif normalize == "batch":
        expected = sum(w * ce for _, w, ce in terms) / sum(w for _, w, _ in terms)
    else:
        expected = sum(w * ce for _, w, ce in terms) / len(terms)
    assert losses.weighted_cross_entropy(logits, label, weight, normalize=normalize).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_empty_images_can_be_left_out(case):
    logits, label, weight = case
    weight[1] = 0
    zero = losses.weighted_cross_entropy(logits, label, weight, empty_images="zero")
    skip = losses.weighted_cross_entropy(logits, label, weight, empty_images="skip")
    assert skip.item() == pytest.approx(zero.item() * 3 / 2, rel=1e-6)


@pytest.mark.parametrize("normalize", ["image", "batch", "valid"])
def test_weighted_cross_entropy_without_weight_is_a_connected_zero(case, normalize):
    logits, label, weight = case
    loss = losses.weighted_cross_entropy(logits, label, torch.zeros_like(weight), normalize=normalize)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_weights_that_are_all_one_give_plain_cross_entropy(case):
    logits, label, weight = case
    ones = torch.ones_like(weight)
    plain = losses.cross_entropy(logits, label).item()
    assert losses.weighted_cross_entropy(logits, label, ones, normalize="batch").item() == pytest.approx(plain)
    assert losses.weighted_cross_entropy(logits, label, ones, normalize="valid").item() == pytest.approx(plain)


def test_weighted_cross_entropy_refuses_an_unknown_normaliser(case):
    logits, label, weight = case
    with pytest.raises(ValueError, match="normalize"):
        losses.weighted_cross_entropy(logits, label, weight, normalize="pixels")


def test_soft_cross_entropy_sums_over_classes(case):
    logits, _, weight = case
    prob = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    total = 0.0
    for b in range(3):
        for y in range(5):
            for x in range(6):
                log_p = torch.log(F.softmax(logits.detach()[b, :, y, x].double(), dim=0))
                total -= float(weight[b, y, x]) * float((prob[b, :, y, x].double() * log_p).sum())
    assert losses.soft_cross_entropy(logits, prob, weight).item() == pytest.approx(
        total / float(weight.sum()), rel=1e-5
    )
    assert losses.soft_cross_entropy(logits, prob, weight, normalize="valid").item() == pytest.approx(
        total / 90, rel=1e-5
    )


def test_soft_cross_entropy_of_a_one_hot_target_is_cross_entropy(case):
    logits, _, weight = case
    label = torch.randint(0, 4, (3, 5, 6), generator=torch.Generator().manual_seed(2))
    prob = F.one_hot(label, 4).permute(0, 3, 1, 2).float()
    for normalize in ("image", "batch", "valid"):
        soft = losses.soft_cross_entropy(logits, prob, weight, normalize=normalize)
        hard = losses.weighted_cross_entropy(logits, label, weight, normalize=normalize)
        assert soft.item() == pytest.approx(hard.item(), rel=1e-5)


def test_squared_difference(case):
    logits, _, weight = case
    prob = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    distance = (logits.detach().double().softmax(1) - prob.double()) ** 2
    expected = float((distance.sum(1) * weight).sum()) / 90
    assert losses.squared_difference(logits, prob, weight, class_reduction="sum").item() == pytest.approx(expected)
    assert losses.squared_difference(logits, prob, weight).item() == pytest.approx(expected / 4)
    valid = weight > 0.5
    among = losses.squared_difference(logits, prob, weight * valid, valid=valid, class_reduction="sum")
    assert among.item() == pytest.approx(float((distance.sum(1) * weight * valid).sum()) / int(valid.sum()))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss(case, gamma):
    logits, label, _ = case
    values = [(1 - math.exp(-ce)) ** gamma * ce for *_, ce in pixels(logits.detach(), label)]
    assert losses.focal_loss(logits, label, gamma=gamma).item() == pytest.approx(sum(values) / len(values), rel=1e-5)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.3, 3), (0.3, 60), (0.01, 12), (0.999, 1)])
def test_ohem_keeps_hard_pixels_and_a_minimum_per_image(case, threshold, min_kept):
    logits, label, _ = case
    kept = []
    for image in range(3):
        values = sorted((ce for b, *_, ce in pixels(logits.detach(), label) if b == image), reverse=True)
        minimum = max(min_kept // 3, 1)
        kept += [ce for rank, ce in enumerate(values) if math.exp(-ce) <= threshold or rank < minimum]
    loss = losses.ohem_cross_entropy(logits, label, threshold=threshold, min_kept=min_kept)
    assert loss.item() == pytest.approx(sum(kept) / len(kept), rel=1e-5)


def test_ohem_of_nothing_is_a_connected_zero(case):
    logits, label, _ = case
    loss = losses.ohem_cross_entropy(logits, torch.full_like(label, 255))
    loss.backward()
    assert loss.item() == 0


def test_entropy_in_nats():
    prob = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    expected = [math.log(2), 0.0, -(0.2 * math.log(0.2) + 0.3 * math.log(0.3) + 0.5 * math.log(0.5))]
    assert losses.entropy(prob, dim=1).tolist() == pytest.approx(expected)


def test_half_precision_logits_are_computed_in_float32(case):
    logits, label, weight = case
    half = logits.detach().bfloat16()
    assert losses.cross_entropy(half, label).dtype == torch.float32
    expected = losses.weighted_cross_entropy(half.float(), label, weight)
    assert torch.equal(losses.weighted_cross_entropy(half, label, weight), expected)
