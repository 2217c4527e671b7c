"""The confidence bank against Eq. 4-7 of AEL and what the specification says of its edges."""

import math

import pytest
import torch

from evenseg.components.confidence_bank import ConfidenceBank
from evenseg.types import NetworkOutput, StepViews

C = 4


def bank(**options):
    return ConfidenceBank(class_frequency=torch.ones(C, dtype=torch.int64), **options)


def views(seed=0, *, classes=(0, 1, 2), size=2):
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, C, 6, 8, generator=g)
    label = torch.tensor(classes)[torch.randint(0, len(classes), (size, 6, 8), generator=g)]
    label[:, 0] = 255
    return StepViews(label, NetworkOutput(logits))


def measured(seen, name, reduction):
    """Eq. 4-6 pixel by pixel: {class: mean indicator}."""
    values = {}
    for image in range(len(seen.label)):
        for row in range(6):
            for column in range(8):
                g = int(seen.label[image, row, column])
                if g == 255:
                    continue
                p = seen.labeled.logits[image, :, row, column].double().softmax(0)
                value = {
                    "confidence": p[g],
                    "margin": p[g] - p.sort(descending=True).values[1],
                    "entropy": -(p * p.log()).sum(),
                }[name]
                values.setdefault(g, {}).setdefault(image, []).append(float(value))
    if reduction == "pixel":
        return {g: sum(map(sum, v.values())) / sum(map(len, v.values())) for g, v in values.items()}
    return {g: sum(sum(x) / len(x) for x in v.values()) / len(v) for g, v in values.items()}


@pytest.mark.parametrize("indicator", ["confidence", "margin", "entropy"])
@pytest.mark.parametrize("reduction", ["pixel", "image"])
def test_two_updates_are_eq_7_with_the_first_weights_made_up_for(indicator, reduction):
    tau, found = 0.9, bank(indicator=indicator, momentum=0.9, reduction=reduction)
    first, second = views(1, classes=(0, 1, 2)), views(2, classes=(1, 2))
    a, b = measured(first, indicator, reduction), measured(second, indicator, reduction)
    found.update(first, None)
    torch.testing.assert_close(found.mean(), torch.tensor([a[0], a[1], a[2], 0.0]), atol=1e-6, rtol=1e-5)
    found.update(second, None)
    both = [(tau * (1 - tau) * a[c] + (1 - tau) * b[c]) / (1 - tau**2) for c in (1, 2)]
    torch.testing.assert_close(found.mean(), torch.tensor([a[0], *both, 0.0]), atol=1e-6, rtol=1e-5)
    assert found.known().tolist() == [True, True, True, False]
    assert found.observations.tolist() == [1, 2, 2, 0]


def test_a_constant_is_reported_as_it_is_from_the_first_update_on():
    found, seen = bank(), views(3)
    found.update(seen, None)
    first = found.mean()
    for _ in range(20):
        found.update(seen, None)
    torch.testing.assert_close(found.mean(), first, rtol=1e-5, atol=0)


def test_a_random_start_decays_as_tau_to_the_k():
    torch.manual_seed(0)
    found, seen, tau = bank(init="random", momentum=0.7), views(4), 0.7
    start, x = found.value.clone(), measured(seen, "confidence", "pixel")
    assert (start > 0).all()
    assert (start < 1).all()
    for _ in range(3):
        found.update(seen, None)
    expected = [x[c] + tau**3 * (float(start[c]) - x[c]) for c in (0, 1, 2)]
    torch.testing.assert_close(found.mean(), torch.tensor([*expected, float(start[3])]), atol=1e-6, rtol=1e-5)
    assert found.known().all()


def test_an_absent_class_stays_or_decays():
    for absent, factor in (("skip", 1.0), ("zero", 0.7)):
        torch.manual_seed(0)
        found = bank(init="random", momentum=0.7, absent=absent)
        before = found.value.clone()
        found.update(views(5, classes=(0, 1)), None)
        torch.testing.assert_close(found.value[2:], factor * before[2:])


def test_ignored_pixels_and_nothing_but_ignored_pixels_change_nothing():
    found, other = bank(), bank()
    seen = views(6)
    noisy = seen.labeled.logits.clone()
    noisy[:, :, 0] = 100 * torch.rand(2, C, 8)
    found.update(seen, None)
    other.update(seen._replace(labeled=NetworkOutput(noisy)), None)
    assert torch.equal(found.value, other.value)
    before = found.value.clone()
    found.update(seen._replace(label=torch.full_like(seen.label, 255)), None)
    assert torch.equal(found.value, before)


def test_log_probabilities_that_are_known_give_the_same():
    found, other, seen = bank(stride=2), bank(stride=2), views(7)
    where = torch.where(seen.label == 255, 0, seen.label)
    log_prob = seen.labeled.logits.log_softmax(1).gather(1, where[:, None]).squeeze(1)
    found.update(seen, None)
    other.update(seen._replace(log_prob=log_prob), None)
    torch.testing.assert_close(found.mean(), other.mean())
    dense = bank()
    dense.update(seen, None)
    assert not torch.allclose(found.mean(), dense.mean())  # every second row and column only


def test_permuting_classes_permutes_the_bank():
    seen, order = views(8, classes=(0, 1, 3)), torch.tensor([2, 0, 3, 1])
    new_id = torch.empty_like(order).scatter_(0, order, torch.arange(C))
    label = torch.where(seen.label == 255, 255, new_id[seen.label.clamp(max=C - 1)])
    found, other = bank(), bank()
    found.update(seen, None)
    other.update(StepViews(label, NetworkOutput(seen.labeled.logits[:, order])), None)
    torch.testing.assert_close(other.mean(), found.mean()[order])


def test_scores_of_the_three_indicators():
    right = StepViews(
        torch.tensor([[[0, 1]]]), NetworkOutput(torch.tensor([[[[90.0, 0]], [[0, 90]], [[0, 0]], [[0, 0]]]]))
    )
    unsure = right._replace(labeled=NetworkOutput(torch.zeros(1, C, 1, 2)))
    for indicator, best, worst in (("confidence", 0.0, 1 - 1 / C), ("margin", 0.0, 1.0), ("entropy", 0.0, 1.0)):
        for seen, expected in ((right, best), (unsure, worst)):
            found = bank(indicator=indicator)
            found.update(seen, None)
            score = found.score()
            torch.testing.assert_close(score[:2], torch.full((2,), expected), atol=1e-5, rtol=0)
            assert score[2:].tolist() == [1.0, 1.0]  # never seen: as bad as can be
    third = torch.tensor([0.6, 0.3, 0.1]).log()[None, :, None, None]
    found = ConfidenceBank(indicator="margin", class_frequency=torch.ones(3))
    found.update(StepViews(torch.tensor([[[2]]]), NetworkOutput(third)), None)
    assert math.isclose(float(found.score()[2]), 1.2, rel_tol=1e-5)  # 1 - (0.1 - 0.3)


def test_a_momentum_of_one_is_refused():
    with pytest.raises(ValueError, match="never learns"):
        bank(momentum=1.0)
