"""Adaptive CutMix of AEL: boxes, presence, partners."""

import pytest
import torch

from evenseg.components.adaptive_cutmix import AdaptiveCutMix
from evenseg.components.mixers import images_of
from evenseg.components.requests import LAG
from evenseg.types import DataFacts, PseudoTarget, Step

C, IMAGES, SLOTS, SIZE = 4, 10, 2, 32
DATA = DataFacts(("a", "b", "c", "d"), torch.ones(C, dtype=torch.int64), 3, IMAGES, 4, SLOTS)


def step(index=0, slot=0):
    return Step(index, 1000, torch.Generator(), seed=3, unlabeled_slot=slot)


def inputs(label, *, seed=0):
    """2 * slots images, and a target that says ``label``."""
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(len(label), 3, SIZE, SIZE, generator=g)
    one_hot = torch.nn.functional.one_hot(label, C).permute(0, 3, 1, 2).float()
    prob = 0.9 * one_hot + 0.1 / C
    weight, valid = torch.rand(label.shape, generator=g), torch.rand(label.shape, generator=g) > 0.1
    return image, PseudoTarget(prob, weight, valid, truth=label + 0)


def partner_labels(background=0):
    label = torch.full((2 * SLOTS, SIZE, SIZE), background)
    label[2, 5:15, 8:20] = 1
    label[3, 20:30, 2:9] = 2
    label[3, 1:3, 1:2] = 1  # too small
    return label


def want(mixer, classes):
    mixer.requests.make(step(0), torch.tensor(classes), torch.tensor([-1] * SLOTS))
    return step(LAG)


def test_the_box_around_the_region_of_the_class_comes_from_the_partner():
    mixer = AdaptiveCutMix(data=DATA)
    image, target = inputs(partner_labels())
    target = target._replace(valid=None)
    mixed_image, mixed = mixer(image, target, want(mixer, [1, 2]), index=torch.tensor([0, 1, 5, 6]))
    inside = torch.zeros(SLOTS, SIZE, SIZE, dtype=torch.bool)
    inside[0, 5:15, 8:20], inside[1, 20:30, 2:9] = True, True
    four = inside[:, None]
    assert torch.equal(mixed_image, torch.where(four, image[2:], image[:2]))
    assert torch.equal(mixed.prob, torch.where(four, target.prob[2:], target.prob[:2]))
    for name in ("weight", "truth"):
        own, other = getattr(target, name)[:2], getattr(target, name)[2:]
        assert torch.equal(getattr(mixed, name), torch.where(inside, other, own))


def test_a_class_that_is_not_there_or_too_small_gives_a_random_box_of_half_the_image():
    mixer = AdaptiveCutMix(area_ratio=0.01, data=DATA)
    image, target = inputs(partner_labels())
    mixed_image, _ = mixer(image, target._replace(valid=None), want(mixer, [3, 1]), index=torch.arange(4))
    shares = (mixed_image == image[2:]).all(dim=1).float().mean(dim=(1, 2))
    assert ((shares - 0.5).abs() < 0.05).all()


def test_a_partner_of_one_class_replaces_the_whole_image():
    mixer, label = AdaptiveCutMix(data=DATA), partner_labels()
    label[2:] = 3
    image, target = inputs(label)
    mixed_image, mixed = mixer(image, target._replace(valid=None), want(mixer, [3, 3]), index=torch.arange(4))
    assert torch.equal(mixed_image, image[2:])
    assert torch.equal(mixed.prob, target.prob[2:])


def test_presence_is_that_of_the_last_crop():
    mixer = AdaptiveCutMix(area_ratio=0.005, data=DATA)
    image, target = inputs(partner_labels())
    target = target._replace(valid=None)
    for _ in range(2):  # twice is as good as once
        mixer(image, target, step(), index=torch.tensor([0, 1, 5, 6]))
        expected = torch.zeros(C, IMAGES, dtype=torch.bool)
        expected[0, [0, 1, 5, 6]] = expected[1, 5] = expected[2, 6] = True  # class 1 in image 6: 2 pixels of 1,024
        assert torch.equal(mixer.presence, expected)
    mixer(image, target, step(), index=torch.tensor([6, 7, 8, 9]))
    assert not mixer.presence[2, 6]
    assert mixer.presence[1, 5]
    # one image in two slots: what either view shows
    mixer(image, target, step(), index=torch.tensor([3, 3, 3, 3]))
    assert mixer.presence[:, 3].tolist() == [True, True, True, False]


def test_pixels_beyond_the_image_show_nothing():
    mixer = AdaptiveCutMix(data=DATA)
    image, target = inputs(partner_labels())
    mixer(image, target._replace(valid=torch.zeros(4, SIZE, SIZE, dtype=torch.bool)), step(), index=torch.arange(4))
    assert not mixer.presence.any()


def test_partners_are_asked_for_among_all_images_known_to_show_the_class():
    mixer = AdaptiveCutMix(temperature=0.05, data=DATA)
    mixer.bank.value.copy_(torch.tensor([0.9, 0.9, 0.1, 0.9]))
    mixer.bank.observations.fill_(1_000_000)
    mixer.presence[2, [1, 4, 7]] = True
    seen = set()
    for index in range(40):
        mixer.step_end(step(index))
        assert mixer.requests.wanted_at(step(index + LAG), SLOTS).tolist() == [2, 2]
        seen |= set(mixer.requests.images_at(index + LAG))
    assert seen == {1, 4, 7}
    mixer.presence[2] = False
    mixer.step_end(step(100))
    assert mixer.requests.images_at(100 + LAG) == [-1, -1]


def test_slots_mix_the_same_in_any_batch():
    mixer = AdaptiveCutMix(data=DATA)
    image, target = inputs(partner_labels())
    whole, _ = mixer(image, target, want(mixer, [3, 1]), index=torch.arange(4))
    rows = torch.tensor([1, 3])
    part = images_of(target, rows)
    second, _ = mixer(image[rows], part, step(LAG, slot=1), index=rows)
    assert torch.equal(second[0], whole[1])


@pytest.mark.parametrize("other", [None, "given"])
def test_other_targets_for_what_is_pasted(other):
    mixer, image = AdaptiveCutMix(data=DATA), inputs(partner_labels())[0]
    target = inputs(partner_labels())[1]._replace(valid=None)
    pasted = None if other is None else target._replace(prob=target.prob.flip(1))
    _, mixed = mixer(image, target, want(mixer, [1 if other is None else 2, 2 if other is None else 1]), pasted)
    source = target if pasted is None else pasted
    assert torch.equal(mixed.prob[0, :, 6, 9], source.prob[2, :, 6, 9])
    assert torch.equal(mixed.prob[0, :, 0, 0], target.prob[0, :, 0, 0])
