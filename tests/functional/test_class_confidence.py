"""AEL's indicators against their printed equations, pixel by pixel."""

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.class_confidence import pixels_per_class
from evenseg.functional.class_statistics import class_confidence

INDICATORS = ["confidence", "margin", "entropy"]
every_indicator = pytest.mark.parametrize("indicator", INDICATORS)
every_reduction = pytest.mark.parametrize("reduction", ["pixel", "image"])


@pytest.fixture
def case():
    """Three images; class 4 occurs nowhere, class 3 in one image, and an image is ignored altogether."""
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(4, 5, 6, 7, generator=generator)
    label = torch.randint(0, 3, (4, 6, 7), generator=generator)
    label[1, :2] = 3
    label[torch.rand(4, 6, 7, generator=generator) < 0.2] = 255
    label[3] = 255
    return logits, label


def indicator_of(row, g, indicator):
    """Equations 4 to 6 for one pixel, of the doubles ``row``."""
    total = sum(math.exp(z) for z in row)
    p = [math.exp(z) / total for z in row]
    if indicator == "confidence":
        return p[g]
    if indicator == "margin":
        return p[g] - sorted(p)[-2]
    return -sum(q * math.log(q) for q in p)


def printed(logits, label, indicator, reduction):
    """Sum and count per class, over pixels or over the means of images."""
    classes = logits.shape[1]
    sums, counts = [0.0] * classes, [0] * classes
    for b in range(len(logits)):
        values = [[] for _ in range(classes)]
        for y, x in torch.nonzero(label[b] != 255).tolist():
            g = int(label[b, y, x])
            values[g].append(indicator_of(logits[b, :, y, x].double().tolist(), g, indicator))
        for c, found in enumerate(values):
            if reduction == "pixel":
                sums[c] += sum(found)
                counts[c] += len(found)
            elif found:
                sums[c] += sum(found) / len(found)
                counts[c] += 1
    return sums, counts


@every_indicator
@every_reduction
def test_sums_and_counts_are_those_of_the_equations(case, indicator, reduction):
    logits, label = case
    total, count = class_confidence(logits, label, indicator=indicator, reduction=reduction)
    sums, counts = printed(logits, label, indicator, reduction)
    assert total.tolist() == pytest.approx(sums, rel=1e-5, abs=1e-6)
    assert count.tolist() == counts
    assert total.dtype == count.dtype == torch.float32
    assert total[4] == count[4] == 0


@pytest.mark.parametrize(("logits", "label", "expected"), [
    ([100.0, 0.0, 0.0], 0, (1.0, 1.0, 0.0)),
    ([7.0, 7.0, 7.0], 1, (1 / 3, 0.0, math.log(3))),
    ([math.log(0.6), math.log(0.3), math.log(0.1)], 2, (0.1, -0.2, 0.897946)),
    ([math.log(0.6), math.log(0.3), math.log(0.1)], 1, (0.3, 0.0, 0.897946)),
    ([0.0, 100.0, 100.0], 0, (0.0, -0.5, math.log(2))),
    ([3.0], 0, (1.0, 1.0, 0.0)),
])  # fmt: skip
def test_indicators_of_one_pixel(logits, label, expected):
    for indicator, value in zip(INDICATORS, expected, strict=True):
        total, count = class_confidence(
            torch.tensor(logits)[None, :, None, None], torch.tensor([[[label]]]), indicator=indicator
        )
        assert total[label].item() == pytest.approx(value, abs=1e-6)
        assert count.tolist() == [float(c == label) for c in range(len(logits))]


@every_reduction
def test_a_known_log_probability_gives_the_same_without_the_logits(case, reduction):
    logits, label = case
    log_prob = -F.cross_entropy(logits, label, ignore_index=255, reduction="none")
    nothing = torch.full_like(logits, torch.nan)
    total, count = class_confidence(nothing, label, reduction=reduction, log_prob=log_prob)
    expected, expected_count = class_confidence(logits, label, reduction=reduction)
    torch.testing.assert_close(total, expected)
    assert torch.equal(count, expected_count)


@every_indicator
@every_reduction
@pytest.mark.parametrize("stray", [1e30, -torch.inf, torch.nan])
def test_ignored_pixels_count_nowhere_whatever_is_predicted(case, indicator, reduction, stray):
    logits, label = case
    expected = class_confidence(logits, label, indicator=indicator, reduction=reduction)
    ignored = (label == 255)[:, None].expand_as(logits)
    got = class_confidence(
        torch.where(ignored, stray, logits), label, indicator=indicator, reduction=reduction,
        log_prob=-torch.where(label == 255, stray, F.cross_entropy(logits, label, ignore_index=255, reduction="none")),
    )  # fmt: skip
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_indicator
@every_reduction
def test_nothing_but_ignored_pixels(case, indicator, reduction):
    logits, label = case
    total, count = class_confidence(logits, torch.full_like(label, 255), indicator=indicator, reduction=reduction)
    assert torch.equal(total, torch.zeros(5))
    assert torch.equal(count, torch.zeros(5))


@pytest.mark.parametrize("ignore_index", [1, -100, 65535])
@every_indicator
def test_another_label_can_be_ignored(case, ignore_index, indicator):
    logits, label = case
    expected = class_confidence(logits, torch.where(label == 1, 255, label), indicator=indicator)
    other = torch.where((label == 255) | (label == 1), ignore_index, label)
    got = class_confidence(logits, other, indicator=indicator, ignore_index=ignore_index)
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


@every_indicator
@every_reduction
def test_classes_can_be_renamed(case, indicator, reduction):
    logits, label = case
    order = torch.tensor([3, 0, 4, 1, 2])  # new class c is the old class order[c]
    renamed = torch.where(label == 255, 255, order.argsort()[label.clamp(max=4)])
    expected = class_confidence(logits, label, indicator=indicator, reduction=reduction)
    got = class_confidence(logits[:, order], renamed, indicator=indicator, reduction=reduction)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs[order])


@every_indicator
@every_reduction
def test_shards_add_up_to_the_batch(case, indicator, reduction):
    logits, label = case
    whole = class_confidence(logits, label, indicator=indicator, reduction=reduction)
    parts = [class_confidence(logits[s], label[s], indicator=indicator, reduction=reduction) for s in ([0, 2], [1, 3])]
    for total, *shards in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(shards), total, rtol=1e-6, atol=0)


@every_indicator
def test_maps_that_are_worked_on_in_bands(indicator):
    """Several bands an image, the last one shorter; logits of another precision and memory layout."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 40, 130, 150, generator=generator)
    logits = logits.bfloat16().to(memory_format=torch.channels_last)
    label = torch.randint(0, 41, (2, 130, 150), generator=generator)
    label[label == 40] = 255
    prob = logits.double().softmax(dim=1)
    own = prob.gather(1, label.clamp(max=39)[:, None])[:, 0]
    value = {
        "confidence": own,
        "margin": own - prob.topk(2, dim=1).values[:, 1],
        "entropy": -(prob * prob.log()).sum(dim=1),
    }[indicator]
    expected = torch.stack([value[label == c].sum() for c in range(40)])
    total, count = class_confidence(logits, label, indicator=indicator)
    torch.testing.assert_close(total, expected.float(), rtol=1e-5, atol=1e-4)
    assert count.tolist() == [int((label == c).sum()) for c in range(40)]


def test_millions_of_pixels_lose_no_digits():
    """Added up one after the other in float32, these are off by 1.5 %."""
    size = 1500
    log_prob = torch.full((1, size, size), math.log(0.7))
    total, count = class_confidence(torch.zeros(1, 2, 1, 1), torch.zeros(1, size, size).long(), log_prob=log_prob)
    assert count.tolist() == [size * size, 0]
    assert (total[0] / count[0]).item() == pytest.approx(0.7, rel=2e-5)


def test_nothing_reaches_the_gradient(case):
    logits, label = case
    logits.requires_grad_()
    log_prob = -F.cross_entropy(logits, label, ignore_index=255, reduction="none")
    for indicator in INDICATORS:
        assert not class_confidence(logits, label, indicator=indicator)[0].requires_grad
    assert not class_confidence(logits, label, log_prob=log_prob)[0].requires_grad


def test_unknown_names_are_refused(case):
    with pytest.raises(ValueError, match="indicator"):
        class_confidence(*case, indicator="variance")
    with pytest.raises(ValueError, match="reduction"):
        class_confidence(*case, reduction="batch")


@every_indicator
@every_reduction
def test_a_device_is_never_waited_for(indicator, reduction):
    """Tensors without data: whatever reads a value, or has a shape that depends on one, raises."""
    logits, label = torch.rand(2, 5, 8, 9, device="meta"), torch.zeros(2, 8, 9, device="meta", dtype=torch.int64)
    total, count = class_confidence(logits, label, indicator=indicator, reduction=reduction)
    assert total.shape == count.shape == (5,)
    assert class_confidence(logits, label, log_prob=logits[:, 0])[0].device.type == "meta"


def test_pixels_per_class():
    code = torch.tensor([[[0, 2], [2, 3]], [[3, 3], [1, 1]]])
    assert pixels_per_class(code, 3).tolist() == [[1, 0, 2], [0, 2, 0]]
