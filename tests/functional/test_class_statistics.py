import math

import pytest
import torch

from evenseg.functional.class_statistics import (
    class_balance_rate,
    class_frequency,
    class_presence,
    inverse_frequency_weight,
    sampling_probability,
    sampling_rate,
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_class_frequency_counts_pixels(dtype):
    label = torch.tensor([[0, 1, 1], [255, 3, 1]], dtype=dtype)
    counts = class_frequency(label, 5)
    assert counts.tolist() == [1, 3, 0, 1, 0]
    assert counts.dtype == torch.int64


def test_class_frequency_takes_another_ignore_index():
    assert class_frequency(torch.tensor([0, 7, 7, 1]), 2, ignore_index=7).tolist() == [1, 1]


@pytest.mark.parametrize("stray", [5, 254, -1])
def test_class_frequency_refuses_stray_labels(stray):
    with pytest.raises(ValueError, match="labels must be"):
        class_frequency(torch.tensor([0, stray]), 5)


def test_inverse_frequency_weight():
    weight = inverse_frequency_weight(torch.tensor([100, 25, 0, 4]), power=0.5)
    assert weight[2] == 1
    present = weight[[0, 1, 3]]
    assert present.mean().item() == pytest.approx(1)
    assert (present[1] / present[0]).item() == pytest.approx(2)  # sqrt(100 / 25)
    assert (present[2] / present[0]).item() == pytest.approx(5)
    assert inverse_frequency_weight(torch.tensor([9, 1]), power=0).tolist() == [1, 1]


def presence_by_hand(label, classes, ratio, valid=None):
    rows = []
    for b, image in enumerate(label):
        inside = torch.ones_like(image, dtype=torch.bool) if valid is None else valid[b]
        found = [int(((image == c) & inside).sum()) for c in range(classes)]
        rows.append([n >= 1 and n / image.numel() >= ratio for n in found])
    return rows


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_class_presence(ratio, dtype):
    generator = torch.Generator().manual_seed(1)
    label = torch.rand(4, 10, 20, generator=generator).pow(3).mul(8).to(dtype)
    label[0, :5] = 255
    label[3] = 2
    valid = torch.rand(4, 10, 20, generator=generator) < 0.6
    assert class_presence(label, 9, min_ratio=ratio).tolist() == presence_by_hand(label, 9, ratio)
    assert class_presence(label, 9, min_ratio=ratio, valid=valid).tolist() == presence_by_hand(label, 9, ratio, valid)


def test_a_class_without_a_pixel_is_never_present():
    assert class_presence(torch.full((1, 4, 4), 255), 3, min_ratio=0.0).tolist() == [[False] * 3]


def test_a_class_is_present_from_its_share_on():
    label = torch.zeros(1, 10, 20, dtype=torch.int64)
    label[0, 0, :3] = 1
    assert class_presence(label, 2, min_ratio=3 / 200).tolist() == [[True, True]]
    assert class_presence(label, 2, min_ratio=3.01 / 200).tolist() == [[True, False]]


def test_a_device_is_never_waited_for():
    label = torch.zeros(2, 8, 9, device="meta", dtype=torch.int64)
    assert class_presence(label, 4, min_ratio=0.1, valid=label > 0).shape == (2, 4)
    score, allowed = torch.rand(4, device="meta"), torch.ones(4, device="meta", dtype=torch.bool)
    assert sampling_probability(score, allowed=allowed).shape == (4,)
    assert sampling_rate(score, known=allowed).shape == (4,)


@pytest.mark.parametrize(("temperature", "power"), [(1.0, 1.0), (0.2, 1.0), (1.0, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize("allowed", [None, [True, False, True, True, False]])
def test_sampling_probability_is_equation_9(temperature, power, allowed):
    score = [0.9, 0.1, 0.0, 0.35, 1.0]
    mass = [math.exp(u**power / temperature) * (allowed is None or allowed[c]) for c, u in enumerate(score)]
    probability = sampling_probability(
        torch.tensor(score),
        temperature=temperature,
        power=power,
        allowed=None if allowed is None else torch.tensor(allowed),
    )
    assert probability.tolist() == pytest.approx([m / sum(mass) for m in mass], rel=1e-5)
    if allowed is not None:
        assert probability[1] == probability[4] == 0


@pytest.mark.parametrize("classes", [2, 19, 21, 150])
def test_odds_between_classes_are_at_most_e(classes):
    score = torch.zeros(classes)
    score[0] = 1
    probability = sampling_probability(score)
    assert (probability[0] / probability[1]).item() == pytest.approx(math.e, rel=1e-5)
    assert probability[0].item() == pytest.approx(math.e / (math.e + classes - 1), rel=1e-5)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("classes", [1, 7, 19])
def test_equal_scores_give_equal_chances_and_keep_everything(score, classes):
    equal = torch.full((classes,), score)
    assert torch.equal(sampling_probability(equal), torch.full((classes,), 1 / classes))
    assert torch.equal(sampling_rate(equal), torch.ones(classes))


def test_a_choice_needs_an_allowed_class_and_a_positive_temperature():
    score = torch.rand(3)
    with pytest.raises(ValueError, match="allowed"):
        sampling_probability(score, allowed=torch.zeros(3, dtype=torch.bool))
    for fault in ({"temperature": 0.0}, {"power": 0.0}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match="above 0"):
            sampling_probability(score, **fault)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_sampling_rate_is_equation_10(beta):
    score = [0.8, 0.2, 0.0, 0.4]
    rate = sampling_rate(torch.tensor(score), beta=beta)
    assert rate.tolist() == pytest.approx([(u / 0.8) ** beta for u in score])
    assert rate[0] == 1  # the worst class keeps everything
    assert rate.argsort().tolist() == torch.tensor(score).argsort().tolist()


def test_sampling_rate_without_an_exponent_or_a_score():
    assert sampling_rate(torch.tensor([0.8, 0.0]), beta=0.0).tolist() == [1, 1]
    for nothing in (0.0, -0.3):
        assert sampling_rate(torch.full((3,), nothing)).tolist() == [1, 1, 1]
    assert sampling_rate(torch.tensor([0.5, -0.2])).tolist() == [1, 0]


def test_classes_that_were_never_measured_keep_everything_and_set_no_scale():
    score, known = torch.tensor([1.0, 0.4, 0.1]), torch.tensor([False, True, True])
    assert sampling_rate(score, known=known).tolist() == pytest.approx([1, 1, 0.25])
    assert sampling_rate(score, known=torch.zeros(3, dtype=torch.bool)).tolist() == [1, 1, 1]


def test_renaming_classes_renames_probabilities_and_rates():
    score, order = torch.tensor([0.9, 0.1, 0.0, 0.35]), torch.tensor([2, 0, 3, 1])
    for function in (sampling_probability, sampling_rate):
        torch.testing.assert_close(function(score[order]), function(score)[order])


def test_class_balance_rate() -> None:
    for counts, expected in (([5, 5, 5], 1.0), ([9, 0, 0], 0.0), ([2, 1], 2 / 3), ([3, 1], 1 / 2), ([7], 1.0)):
        assert float(class_balance_rate(torch.tensor(counts))) == pytest.approx(expected, abs=1e-6)
    assert class_balance_rate(torch.tensor([0, 0])).isnan()


def test_class_balance_rate_is_the_formula() -> None:
    g = torch.Generator().manual_seed(0)
    for classes in (2, 5, 177):
        counts = torch.randint(0, 10**9, (classes,), generator=g)
        one = torch.zeros(classes, dtype=torch.float64)
        one[0] = counts.sum()
        expected = 1 - counts.double().std(correction=0) / one.std(correction=0)  # Eq. 9
        found = class_balance_rate(counts)
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(float(expected), abs=1e-6)
        assert float(class_balance_rate(3 * counts.flip(0))) == pytest.approx(float(found), abs=1e-6)
        variation = counts.double().std(correction=0) / counts.double().mean()
        assert float(found) == pytest.approx(float(1 - variation / (classes - 1) ** 0.5), abs=1e-6)
