"""The directional contrast against the loops that its formula says."""

import math

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional import directional_contrast as module
from evenseg.functional.directional_contrast import directional_contrast

TEMPERATURE = 0.1


def drawn(anchors=7, keys=11, dimension=5, classes=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return {
        "anchor": torch.randn(anchors, dimension, generator=g, dtype=dtype),
        "positive": torch.randn(anchors, dimension, generator=g, dtype=dtype),
        "anchor_class": torch.randint(0, classes, (anchors,), generator=g),
        "chosen": torch.rand(anchors, generator=g) < 0.7,
        "weight": torch.rand(anchors, generator=g, dtype=dtype),
        "key": torch.randn(keys, dimension, generator=g, dtype=dtype),
        "key_class": torch.randint(-1, classes, (keys,), generator=g),
    }


def by_loops(anchor, positive, anchor_class, chosen, weight, key, key_class, temperature=TEMPERATURE):
    """Every anchor and key by itself; gradients by autograd through this."""
    total, count = torch.zeros((), dtype=anchor.dtype), 0
    for i in range(len(anchor)):
        if not chosen[i]:
            continue
        count += 1
        a = anchor[i] / anchor[i].norm()
        p = torch.exp(a @ (positive[i] / positive[i].norm()).detach() / temperature)
        denominator = p
        for k in range(len(key)):
            if key_class[k] >= 0 and key_class[k] != anchor_class[i]:
                denominator = denominator + torch.exp(a @ (key[k] / key[k].norm()).detach() / temperature)
        total = total - weight[i] * torch.log(p / denominator)
    return total / max(count, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [1 << 22, 1])
def test_value_and_gradient_are_the_formulas(seed, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    given = drawn(seed=seed)
    ours, theirs = (given["anchor"].clone().requires_grad_() for _ in range(2))
    expected = by_loops(**{**given, "anchor": theirs})
    got = directional_contrast(**{**given, "anchor": ours}, temperature=TEMPERATURE)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    got.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_only_the_chosen_anchors_move():
    given = drawn()
    tensors = {name: given[name].clone().requires_grad_() for name in ("anchor", "positive", "weight", "key")}
    directional_contrast(**{**given, **tensors}, temperature=TEMPERATURE).backward()
    moved = tensors["anchor"].grad.abs().sum(1) > 0
    assert torch.equal(moved, given["chosen"])
    assert all(tensors[name].grad is None for name in ("positive", "weight", "key"))


def test_a_step_along_the_gradient_brings_the_anchor_to_its_positive():
    given = drawn(anchors=1) | {"chosen": torch.tensor([True]), "weight": torch.ones(1)}
    anchor = given["anchor"].clone().requires_grad_()
    directional_contrast(**{**given, "anchor": anchor}, temperature=TEMPERATURE).backward()
    before, after = (F.cosine_similarity(a, given["positive"]) for a in (anchor, anchor - 1e-3 * anchor.grad))
    assert after > before


def test_nothing_chosen_is_a_connected_zero():
    given = drawn() | {"chosen": torch.zeros(7, dtype=torch.bool)}
    anchor = given["anchor"].clone().requires_grad_()
    loss = directional_contrast(**{**given, "anchor": anchor}, temperature=TEMPERATURE)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(anchor.grad, torch.zeros_like(anchor))


@pytest.mark.parametrize("key_class", [torch.full((11,), -1), torch.zeros(11, dtype=torch.int64)])
def test_without_negatives_the_loss_is_zero(key_class):
    given = drawn() | {"key_class": key_class, "anchor_class": torch.zeros(7, dtype=torch.int64)}
    anchor = given["anchor"].clone().requires_grad_()
    loss = directional_contrast(**{**given, "anchor": anchor}, temperature=TEMPERATURE)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert anchor.grad.abs().max() < 1e-6


def test_the_worst_case_is_finite():
    """An anchor opposite to its positive and on a negative: the loss is 2 / temperature."""
    anchor = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = directional_contrast(
        anchor,
        -anchor.detach(),
        torch.tensor([0]),
        torch.tensor([True]),
        torch.ones(1),
        anchor.detach(),
        torch.tensor([1]),
        temperature=0.025,
    )
    assert loss.item() == pytest.approx(80, rel=1e-5)
    loss.backward()
    assert torch.isfinite(anchor.grad).all()


def test_padding_changes_nothing_on_any_path():
    """Rows of padding are left out on a CPU and weigh nothing elsewhere: both are the same sum."""
    given = drawn(dtype=torch.float32)
    expected = directional_contrast(**given, temperature=TEMPERATURE)
    padded = dict(given)
    padded["key"] = torch.cat([given["key"], torch.zeros(3, 5)])
    padded["key_class"] = torch.cat([given["key_class"], torch.full((3,), -1)])
    assert directional_contrast(**padded, temperature=TEMPERATURE).item() == pytest.approx(expected.item(), rel=1e-6)
    anchor = F.normalize(given["anchor"], dim=1)
    everything = module._Directional.apply(
        anchor,
        F.normalize(given["positive"], dim=1),
        given["anchor_class"],
        given["weight"] * given["chosen"] / given["chosen"].sum(),
        F.normalize(padded["key"], dim=1),
        padded["key_class"],
        TEMPERATURE,
    )
    assert everything.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_temperature_that_leaves_float32_is_refused():
    with pytest.raises(ValueError, match=r"temperature: 0\.01 is below 0\.025"):
        directional_contrast(**drawn(), temperature=0.01)


def test_half_precision_is_computed_in_float32():
    given = drawn(dtype=torch.bfloat16)
    expected = by_loops(**{k: v.double() if v.is_floating_point() else v for k, v in given.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = directional_contrast(**given, temperature=TEMPERATURE)
    assert math.isclose(got.item(), expected.item(), rel_tol=1e-4)
