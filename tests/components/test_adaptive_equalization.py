"""Dynamic re-weighting (Eq. 13) and equalization sampling (Eq. 10) of AEL."""

import pytest
import torch

from evenseg.components.adaptive_equalization import DynamicReweighting, EqualizationSampling
from evenseg.components.confidence_bank import ConfidenceBank
from evenseg.types import NetworkOutput, PseudoTarget, Step

C = 3
STEP = Step(4, 10, torch.Generator(), seed=7, unlabeled_slot=0)


def sampling(confidence, *, observed=(1, 1, 1), **options):
    bank = ConfidenceBank(class_frequency=torch.ones(C), momentum=0.0)
    bank.value.copy_(torch.tensor(confidence))
    bank.observations.copy_(torch.tensor(observed))
    return EqualizationSampling(bank=bank, class_frequency=torch.ones(C), **options)


def target_of(label, weight=1.0):
    prob = torch.nn.functional.one_hot(label, C).permute(0, 3, 1, 2).float()
    return PseudoTarget(prob, torch.full(label.shape, weight))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.0])
def test_weights_are_the_confidence_to_a_power(gamma):
    prob = torch.rand(2, C, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    weight = torch.rand(2, 4, 5)
    refined = DynamicReweighting(gamma=gamma).refine(PseudoTarget(prob, weight), None, STEP)
    torch.testing.assert_close(refined.weight, weight * prob.amax(1) ** gamma)
    assert torch.equal(refined.prob, prob)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_a_million_pixels_keep_their_share(beta):
    part = sampling((0.9, 0.5, 0.2), beta=beta)
    label = torch.arange(C).view(C, 1, 1).expand(C, 1000, 1000)
    student = NetworkOutput(target_of(label).prob)
    kept = part.select(target_of(label), student, STEP).weight.flatten(1).mean(1)
    for share, conf in zip(kept.tolist(), (0.9, 0.5, 0.2), strict=True):
        rate = ((1 - conf) / 0.8) ** beta
        assert abs(share - rate) <= 4 * (rate * (1 - rate) / 1e6) ** 0.5 + 1e-7


def test_equal_classes_perfect_ones_and_unknown_ones_keep_everything():
    label = torch.randint(0, C, (2, 16, 16))
    student = NetworkOutput(target_of(label).prob)
    for confidence, observed in (((0.4, 0.4, 0.4), (1, 1, 1)), ((1.0, 1.0, 1.0), (1, 1, 1)), ((0.0,) * 3, (0, 0, 0))):
        part = sampling(confidence, observed=observed)
        assert part.rate().tolist() == [1.0, 1.0, 1.0]
        assert (part.select(target_of(label, 0.5), student, STEP).weight == 0.5).all()
    # a class that was never seen keeps all, and does not starve the others
    torch.testing.assert_close(sampling((0.9, 0.5, 0.0), observed=(1, 1, 0)).rate(), torch.tensor([0.2, 1.0, 1.0]))


def test_whose_prediction_tells_the_class():
    ours, theirs = torch.zeros(1, 64, 64, dtype=torch.int64), torch.ones(1, 64, 64, dtype=torch.int64)
    student, target = NetworkOutput(target_of(ours).prob), target_of(theirs)
    # class 0 is perfect and never kept, class 1 the worst and always kept
    assert sampling((1.0, 0.2, 0.5)).select(target, student, STEP).weight.sum() == 0
    assert sampling((1.0, 0.2, 0.5), class_map="teacher").select(target, student, STEP).weight.min() == 1


def test_draws_belong_to_slots_and_steps():
    label = torch.zeros(4, 32, 32, dtype=torch.int64)
    student, target, part = NetworkOutput(target_of(label).prob), target_of(label), sampling((0.7, 0.4, 0.4))
    whole = part.select(target, student, STEP).weight
    assert torch.equal(part.select(target, student, STEP).weight, whole)
    tail = NetworkOutput(student.logits[2:]), target_of(label[2:])
    assert torch.equal(part.select(tail[1], tail[0], STEP._replace(unlabeled_slot=2)).weight, whole[2:])
    assert not torch.equal(part.select(target, student, STEP._replace(index=5)).weight, whole)
    assert not torch.equal(whole[0], whole[1])
