"""The cross-entropy in bands against the plain form."""

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.enlarged_loss import enlarged_cross_entropy
from evenseg.functional.losses import cross_entropy

CASES = {  # (h, w), (H, W), padded
    "whole": ((12, 16), (48, 64), (48, 64)),
    "padded": ((12, 16), (41, 57), (48, 64)),
    "one row of cells": ((1, 4), (9, 16), (16, 16)),
    "one cell": ((1, 1), (5, 7), (16, 16)),
    "not enlarged": ((10, 9), (10, 9), (10, 9)),
}


def plain(logits, label, padded):
    enlarged = F.interpolate(logits, padded, mode="bilinear", align_corners=True)
    return cross_entropy(enlarged[..., : label.shape[1], : label.shape[2]], label)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("band", [1, 7, 16, 1000])
def test_loss_and_gradient_are_those_of_the_plain_form(case, band):
    cells, size, padded = case
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 11, *cells, generator=g).mul(3).requires_grad_()
    label = torch.randint(0, 11, (2, *size), generator=g)
    label[0, :3] = 255
    label[1, :, -2:] = 255
    expected, found = plain(logits, label, padded), enlarged_cross_entropy(logits, label, padded, band=band)
    torch.testing.assert_close(found, expected)
    (wanted,) = torch.autograd.grad(3 * expected, logits)
    (got,) = torch.autograd.grad(3 * found, logits)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_nothing_valid_is_a_connected_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = enlarged_cross_entropy(logits, torch.full((1, 16, 16), 255), (16, 16))
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros_like(logits))


def test_ids_above_255_and_another_ignored_label():
    logits = torch.randn(1, 300, 2, 2, requires_grad=True)
    label = torch.tensor([[[299, 65535], [255, 0]]])
    expected = F.cross_entropy(logits, label, ignore_index=65535)
    found = enlarged_cross_entropy(logits, label, (2, 2), ignore_index=65535)
    torch.testing.assert_close(found, expected)


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(2, 5, 6, 6).mul(20).bfloat16().requires_grad_()
    label = torch.randint(0, 5, (2, 24, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = enlarged_cross_entropy(logits, label, (24, 24))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(logits.float(), label, (24, 24)))
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.dtype == torch.bfloat16


def test_channels_last_logits_give_the_same():
    logits = torch.randn(2, 5, 6, 6)
    label = torch.randint(0, 5, (2, 24, 24))
    other = logits.contiguous(memory_format=torch.channels_last)
    assert enlarged_cross_entropy(logits, label, (24, 24)) == enlarged_cross_entropy(other, label, (24, 24))
