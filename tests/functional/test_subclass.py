"""Subclasses, the entropy gate and regularised labels of USRN, against plain loops over pixels (Eq. 3-7)."""

import math

import pytest
import torch

from evenseg.functional.subclass import (
    class_prob,
    entropy_gate,
    normalised_entropy,
    parent_classes,
    parent_of,
    regularise,
    subclass_offsets,
    verdict,
)

COUNTS = torch.tensor([5, 1, 2, 1])
PARENT = parent_classes(COUNTS)


def random_pair(seed, sharpness=2.0, counts=COUNTS, size=6):
    g = torch.Generator().manual_seed(seed)
    prob = torch.randn(2, len(counts), size, size, generator=g, dtype=torch.float64).mul(sharpness).softmax(1)
    sub = torch.randn(2, int(counts.sum()), size, size, generator=g, dtype=torch.float64).mul(2 * sharpness).softmax(1)
    return prob.float(), sub.float()


def pixels(prob, sub):
    """Every pixel's two distributions as lists."""
    for b in range(len(prob)):
        for y in range(prob.shape[2]):
            for x in range(prob.shape[3]):
                yield (b, y, x), prob[b, :, y, x].tolist(), sub[b, :, y, x].tolist()


def entropy(values):
    return -sum(v * math.log(v) for v in values if v > 0)


def test_ids_follow_those_of_the_class_before():
    assert subclass_offsets(COUNTS).tolist() == [0, 5, 6, 8]
    assert PARENT.tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 3]
    matrix = torch.nn.functional.one_hot(PARENT, 4).T  # M of the paper
    assert matrix.sum(0).tolist() == [1] * 9
    assert matrix.sum(1).tolist() == COUNTS.tolist()


def test_parents_of_a_map_keep_what_is_ignored():
    subclass = torch.tensor([[0, 4, 5], [7, 8, 255]])
    assert parent_of(subclass, PARENT, ignore_subclass=255).tolist() == [[0, 0, 1], [2, 3, 255]]
    many = torch.tensor([300, 65535])
    parents = parent_of(many, torch.arange(400) // 2, ignore_subclass=65535, ignore_index=255)
    assert parents.tolist() == [150, 255]


def test_class_probabilities_are_sums():
    _, sub = random_pair(0)
    mapped = class_prob(sub, PARENT, 4)
    for (b, y, x), _, s in pixels(sub[:, :4], sub):
        expected = [sum(v for v, p in zip(s, PARENT.tolist(), strict=True) if p == c) for c in range(4)]
        torch.testing.assert_close(mapped[b, :, y, x], torch.tensor(expected))
    torch.testing.assert_close(mapped.sum(1), torch.ones(2, 6, 6))


def test_entropy_is_1_of_uniform_and_0_of_certain_predictions_in_half_precision_too():
    uniform, certain = torch.full((1, 7, 1, 1), 1 / 7), torch.eye(7)[:1, :, None, None]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert normalised_entropy(uniform.to(dtype)).item() == pytest.approx(1.0, abs=2e-2)
        assert normalised_entropy(certain.to(dtype)).item() == 0.0
    assert normalised_entropy(torch.ones(1, 1, 2, 2)).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_grouping_lowers_entropy_by_what_is_within_the_groups():
    _, sub = random_pair(1)
    mapped = class_prob(sub, PARENT, 4)
    of_sub, of_mapped = (torch.special.entr(each).sum(1) for each in (sub, mapped))
    assert (of_mapped <= of_sub + 1e-6).all()
    within = torch.zeros_like(of_sub)
    for c in range(4):
        inner = sub[:, c == PARENT] / mapped[:, c : c + 1]
        within += mapped[:, c] * torch.special.entr(inner).sum(1)
    torch.testing.assert_close(of_mapped + within, of_sub)


@pytest.mark.parametrize("mode", ["normalised", "mapped", "raw", "always", "never"])
def test_gate_is_that_of_a_loop(mode):
    prob, sub = random_pair(2)
    found = entropy_gate(prob, sub, PARENT, mode=mode)
    assert 0 < found.float().mean() < 1 or mode in ("always", "never", "raw")
    for (b, y, x), p, s in pixels(prob, sub):
        mapped = [sum(v for v, q in zip(s, PARENT.tolist(), strict=True) if q == c) for c in range(4)]
        expected = {
            "normalised": entropy(s) / math.log(9) <= entropy(p) / math.log(4),
            "mapped": entropy(mapped) <= entropy(p),
            "raw": entropy(s) <= entropy(p),
            "always": True,
            "never": False,
        }[mode]
        assert found[b, y, x].item() == expected


def test_equal_entropies_open_the_gate():
    """With one subclass for each class and the same logits the two entropies are one."""
    prob, _ = random_pair(3)
    assert entropy_gate(prob, prob, torch.arange(4)).all()
    with pytest.raises(ValueError, match="mode must be"):
        entropy_gate(prob, prob, torch.arange(4), mode="sometimes")


def test_hard_and_summed_votes_differ():
    """The example of five small subclasses against one larger one."""
    sub = torch.tensor([0.12] * 5 + [0.4] + [0.0] * 3).view(1, 9, 1, 1)
    prob = torch.full((1, 4, 1, 1), 0.25)
    assert verdict(prob, sub, PARENT).label.item() == 1
    assert verdict(prob, sub, PARENT, mapping="sum_argmax").label.item() == 0


@pytest.mark.parametrize("mapping", ["hard", "soft", "sum_argmax"])
@pytest.mark.parametrize("closed", ["fallback", "drop"])
def test_regularised_probabilities_are_those_of_a_loop(mapping, closed):
    prob, sub = random_pair(4)
    product = regularise(prob, verdict(prob, sub, PARENT, mapping=mapping), closed=closed)
    for (b, y, x), p, s in pixels(prob, sub):
        mapped = [sum(v for v, q in zip(s, PARENT.tolist(), strict=True) if q == c) for c in range(4)]
        winner = PARENT[s.index(max(s))].item() if mapping == "hard" else mapped.index(max(mapped))
        factor = mapped if mapping == "soft" else [float(c == winner) for c in range(4)]
        if entropy(s) / math.log(9) > entropy(p) / math.log(4):
            factor = [1.0] * 4 if closed == "fallback" else [0.0] * 4
        expected = [v * f for v, f in zip(p, factor, strict=True)]
        torch.testing.assert_close(product[b, :, y, x], torch.tensor(expected))


def test_from_a_threshold_of_a_half_on_labels_are_vetoed_and_never_changed():
    prob, sub = random_pair(5, sharpness=3.0, size=100)
    found = verdict(prob, sub, PARENT)
    confidence, label = regularise(prob, found).max(1)
    plain_confidence, plain_label = prob.max(1)
    for threshold in (0.5, 0.75, 0.95):
        kept, plain = confidence > threshold, plain_confidence > threshold
        assert kept.any()
        assert (kept <= plain).all()
        assert (label[kept] == plain_label[kept]).all()
        assert torch.equal(kept[~found.open], plain[~found.open])
        vetoed = plain & ~kept
        assert torch.equal(vetoed, plain & found.open & (found.label != plain_label))
    below = confidence > 0.2
    assert (label[below] != plain_label[below]).any()  # there it may change one


def test_one_subclass_for_each_class_and_the_same_logits_leave_the_labels_alone():
    prob, _ = random_pair(6)
    confidence, label = regularise(prob, verdict(prob, prob, torch.arange(4))).max(1)
    assert torch.equal(confidence, prob.max(1).values)
    assert torch.equal(label, prob.max(1).indices)


def test_renormalised_probabilities_sum_to_one_and_nothing_is_divided_by_zero():
    prob, sub = random_pair(7)
    product = regularise(prob, verdict(prob, sub, PARENT, mapping="soft"), renormalise=True)
    torch.testing.assert_close(product.sum(1), torch.ones(2, 6, 6))
    certain = torch.eye(4)[:1, :, None, None]  # of class 0, and the subclasses of class 1
    other = torch.eye(9)[5:6, :, None, None]
    assert regularise(certain, verdict(certain, other, PARENT), renormalise=True).sum() == 0
