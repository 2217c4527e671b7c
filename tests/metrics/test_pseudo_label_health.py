"""The figures of pseudo-labels against counting pixel by pixel."""

import math

import pytest
import torch

from evenseg.metrics.pseudo_label_health import HealthSums, health_figures, health_sums, mixed_kl_divergence
from evenseg.types import PseudoTarget

C = 4


def example(seed=0, batch=3, height=7, width=5):
    g = torch.Generator().manual_seed(seed)
    prob = torch.randn(batch, C, height, width, generator=g).mul(3).softmax(dim=1)
    prob[:, 3] = 0  # a class that is never predicted, but occurs
    valid = torch.rand(batch, height, width, generator=g) > 0.2
    weight = torch.rand(batch, height, width, generator=g) * (torch.rand(batch, height, width, generator=g) > 0.4)
    truth = torch.randint(0, C, (batch, height, width), generator=g)
    truth[torch.rand(truth.shape, generator=g) < 0.2] = 255
    student = torch.randn(batch, C, height, width, generator=g)
    return PseudoTarget(prob, weight * valid, valid), student, truth


def counted(target, student, truth):
    """Each sum, pixel by pixel."""
    table = torch.zeros(8, C, dtype=torch.float64)
    for b, y, x in torch.nonzero(target.valid).tolist():
        label = int(target.prob[b, :, y, x].argmax())
        weight, known = float(target.weight[b, y, x]), int(truth[b, y, x])
        disagrees = int(student[b, :, y, x].argmax()) != label
        added = [1, weight > 0, weight, float(target.prob[b, label, y, x]), disagrees]
        added += [weight > 0 and known != 255, weight > 0 and known == label]
        table[:7, label] += torch.tensor([float(value) for value in added], dtype=torch.float64)
        if known != 255:
            table[7, known] += 1
    return table


@pytest.mark.parametrize("seed", range(3))
def test_sums_equal_counting(seed):
    target, student, truth = example(seed)
    sums = health_sums(target, student, truth)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums.double(), counted(target, student, truth), rtol=1e-6, atol=1e-6)


def test_what_is_unknown_is_nan_and_the_rest_the_same():
    target, student, truth = example()
    full = health_sums(target, student, truth)
    for known, rows in (((None, truth), [4]), ((student, None), [5, 6, 7])):
        sums = health_sums(target, *known)
        assert sums.shape == full.shape
        assert sums[rows].isnan().all()
        others = [row for row in range(8) if row not in rows]
        torch.testing.assert_close(sums[others], full[others])


def test_every_pixel_counts_where_no_validity_is_given():
    target, *_ = example()
    sums = HealthSums(*health_sums(target._replace(valid=None)))
    assert sums.predicted.sum() == target.weight.numel()


def test_large_batches_lose_no_digits():
    """Added one after the other in float32, the confidences would come out 2 % too large."""
    prob = torch.tensor([0.97, 0.03]).view(1, 2, 1, 1).expand(2, 2, 1024, 1024)
    sums = HealthSums(*health_sums(PseudoTarget(prob, torch.ones(2, 1024, 1024))))
    assert sums.predicted.tolist() == [2 * 1024 * 1024, 0]
    assert sums.confidence[0].item() == pytest.approx(0.97 * 2 * 1024 * 1024, rel=1e-4)


def test_figures_are_quotients_of_the_sums():
    sums = torch.tensor(
        [[10.0, 30, 0], [5, 15, 0], [4, 6, 0], [8, 27, 0], [1, 3, 0], [4, 10, 0], [3, 10, 0], [6, 40, 2]]
    )
    figures = health_figures(sums)
    expected = {
        "share": [0.25, 0.75, 0.0],
        "kept": [0.5, 0.5, math.nan],
        "weight": [0.4, 0.2, math.nan],
        "confidence": [0.8, 0.9, math.nan],
        "disagreement": [0.1, 0.1, math.nan],
        "precision": [0.75, 1.0, math.nan],
        "recall": [0.5, 0.25, 0.0],
    }
    for name, values in expected.items():
        assert getattr(figures, name).tolist() == pytest.approx(values, nan_ok=True), name
    for left, right in zip(figures, health_figures(sums / 7), strict=True):  # a mean over steps and ranks
        torch.testing.assert_close(left, right, equal_nan=True, rtol=1e-6, atol=0)
    assert health_figures(sums * 0).share.isnan().all()


def test_divergence():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    exact = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert mixed_kl_divergence(p * 700, q * 20).item() == pytest.approx(exact, rel=1e-3)
    assert mixed_kl_divergence(p, p).item() == pytest.approx(0, abs=1e-12)
    missing = mixed_kl_divergence(torch.tensor([1, 1, 0]), torch.tensor([5, 0, 5])).item()
    assert missing == pytest.approx(0.5 * math.log(1.0) + 0.5 * math.log(0.5 / (1e-4 / 3)), rel=0.01)
    assert mixed_kl_divergence(torch.zeros(3), q).isnan()
