"""Pixel contrast against C3-SemiSeg's Eq. 3 and 5, pair by pair, and what the formula implies."""

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional import contrast
from evenseg.functional.contrast import pixel_contrast


def by_pairs(anchor, anchor_class, key, key_class, tau, own=None):
    """Eq. 5, sums written out; keys are constants, an anchor is left out that lacks positives or negatives."""
    f, k = F.normalize(anchor.double(), dim=1), F.normalize(key.detach().double(), dim=1)
    losses = []
    for i in range(len(f)):
        usable = [j for j in range(len(k)) if key_class[j] >= 0]
        positives = [j for j in usable if key_class[j] == anchor_class[i] and (own is None or own[i] != j)]
        negatives = [j for j in usable if key_class[j] != anchor_class[i]]
        if anchor_class[i] < 0 or not positives or not negatives:
            continue
        e = [torch.exp(f[i] @ k[j] / tau) for j in range(len(k))]
        away = sum(e[j] for j in negatives)
        losses.append(-sum(torch.log(e[j] / (e[j] + away)) for j in positives) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0 * anchor.sum()


@pytest.fixture(params=[1, 1 << 20], ids=["row by row", "at once"])
def case(request, monkeypatch):
    monkeypatch.setattr(contrast, "CHUNK", request.param)
    g = torch.Generator().manual_seed(0)
    anchor = torch.randn(11, 6, generator=g, requires_grad=True)
    key = torch.randn(14, 6, generator=g, requires_grad=True)
    # padding among anchors and keys, an anchor class (4) without positives, a key class (3) without anchors
    anchor_class = torch.tensor([0, 1, 2, -1, 0, 4, 1, 1, -1, 2, 0])
    key_class = torch.tensor([0, 1, 2, -1, 0, 3, 1, 2, -1, 0, 0, 3, 1, -1])
    return anchor, anchor_class, key, key_class


@pytest.mark.parametrize("own", [None, [0, 1, -1, 3, 4, 5, 6, -1, 8, 7, 13]], ids=["all keys", "own keys left out"])
@pytest.mark.parametrize("tau", [0.15, 0.7, 0.03])
def test_equals_the_formula(case, own, tau):
    anchor, anchor_class, key, key_class = case
    expected = by_pairs(anchor, anchor_class, key, key_class, tau, own)
    index = None if own is None else torch.tensor(own)
    got = pixel_contrast(anchor, anchor_class, key, key_class, temperature=tau, own_key=index)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(2 * got, anchor)[0], torch.autograd.grad(2 * expected, anchor)[0], rtol=1e-4, atol=1e-6
    )


def test_padding_changes_nothing_where_it_is_not_taken_out(case, monkeypatch):
    expected = pixel_contrast(*case, temperature=0.15, own_key=torch.arange(11))
    slope = torch.autograd.grad(expected, case[0])[0]
    monkeypatch.setattr(contrast, "_without_padding", lambda *arguments: arguments)
    got = pixel_contrast(*case, temperature=0.15, own_key=torch.arange(11))
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(torch.autograd.grad(got, case[0])[0], slope)
    assert (slope[[3, 8]] == 0).all()


def test_keys_take_no_gradient_unless_asked(case):
    anchor, anchor_class, key, key_class = case
    pixel_contrast(anchor, anchor_class, key, key_class, temperature=0.15).backward()
    assert key.grad is None
    with torch.enable_grad():  # both sides, by automatic differentiation of one matrix
        f, k = F.normalize(anchor, dim=1), F.normalize(key, dim=1)
        similarity = (f @ k.T / 0.15).exp()
        same = anchor_class[:, None] == key_class
        positive, negative = same & (key_class >= 0), ~same & (key_class >= 0)
        pair = -(similarity / (similarity + (similarity * negative).sum(1, keepdim=True))).log()
        used = (anchor_class >= 0) & positive.any(1)
        expected = ((pair * positive).sum(1)[used] / positive.sum(1)[used]).mean()
    got = pixel_contrast(anchor, anchor_class, key, key_class, temperature=0.15, key_gradient=True)
    for ours, theirs in zip(
        torch.autograd.grad(got, (anchor, key)), torch.autograd.grad(expected, (anchor, key)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.15, 1.0])
def test_identical_embeddings_cost_the_log_of_one_more_than_the_negatives(tau):
    same = torch.ones(12, 4, requires_grad=True)
    label = torch.arange(12) % 3
    loss = pixel_contrast(same, label, same, label, temperature=tau, own_key=torch.arange(12))
    assert loss.item() == pytest.approx(math.log(1 + 8), rel=1e-5)


def test_classes_at_right_angles():
    label = torch.arange(2).repeat_interleave(20)
    embedding = F.one_hot(label, 5).float().requires_grad_()
    loss = pixel_contrast(embedding, label, embedding, label, temperature=0.15, own_key=torch.arange(40))
    assert loss.item() == pytest.approx(0.02514, abs=1e-5)


@pytest.mark.parametrize(
    ("anchor_class", "key_class"),
    [([1, 1], [1, 1, 1]), ([0, 1], [2, 3, -1]), ([-1, -1], [0, 1, 1]), ([0, 1], [-1, -1, -1]), ([], []), ([0], [])],
    ids=["one class", "no positives", "no anchors", "no keys", "nothing", "nothing to compare with"],
)
def test_nothing_to_contrast_is_a_connected_zero(anchor_class, key_class):
    anchor = torch.randn(len(anchor_class), 3, requires_grad=True)
    key = torch.randn(len(key_class), 3)
    classes = (torch.tensor(label, dtype=torch.int64) for label in (anchor_class, key_class))
    anchors, keys = classes
    loss = pixel_contrast(anchor, anchors, key, keys, temperature=0.15)
    loss.backward()
    assert loss.item() == 0
    assert (anchor.grad == 0).all()


def test_order_rotation_and_length_do_not_matter(case):
    anchor, anchor_class, key, key_class = case
    loss = pixel_contrast(*case, temperature=0.15)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    order = torch.randperm(11, generator=torch.Generator().manual_seed(2))
    for other in (
        (anchor[order], anchor_class[order], key, key_class),
        (anchor @ turn, anchor_class, key @ turn, key_class),
        (anchor * torch.rand(11, 1).add(0.1), anchor_class, 7 * key, key_class),
    ):
        assert pixel_contrast(*other, temperature=0.15).item() == pytest.approx(loss.item(), rel=1e-5)
    (slope,) = torch.autograd.grad(loss, anchor)
    torch.testing.assert_close((slope * anchor).sum(1), torch.zeros(11), atol=1e-6, rtol=0)


def test_half_precision_is_computed_in_float32(case):
    anchor, anchor_class, key, key_class = case
    rounded = anchor.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pixel_contrast(rounded, anchor_class, key, key_class, temperature=0.15)
    exact = pixel_contrast(rounded.detach().float(), anchor_class, key, key_class, temperature=0.15)
    assert loss.dtype == torch.float32
    assert loss.item() == exact.item()


def test_low_temperatures_are_refused(case):
    with pytest.raises(ValueError, match="temperature"):
        pixel_contrast(*case, temperature=0.01)
