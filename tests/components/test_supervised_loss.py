"""Supervised losses of a class: what they are given, against transcriptions of their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from evenseg.components.supervised_loss import ClassWeighted


def test_class_weights_divide_by_the_sum_of_weights():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    label = torch.randint(0, 3, (2, 4, 5), generator=generator)
    label[0, 0] = 255
    weights = [0.0, 1.0, 5.0]
    total = mass = 0.0
    for b, y, x in torch.nonzero(label != 255).tolist():
        row, c = logits[b, :, y, x].double(), int(label[b, y, x])
        total += weights[c] * float(row.exp().sum().log() - row[c])
        mass += weights[c]
    assert ClassWeighted(weights=weights)(logits, label).item() == pytest.approx(total / mass, rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, math.nan], [math.inf, 1.0], [0.0, 0.0], []])
def test_impossible_class_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be finite and at least 0"):
        ClassWeighted(weights=weights)


def test_one_weight_per_class():
    with pytest.raises(ValueError, match="3 weights for 2 classes"):
        ClassWeighted(weights=[1.0, 2.0, 3.0], class_frequency=torch.tensor([5, 5]))
