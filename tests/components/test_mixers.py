"""What a mixer does to image and target, and that it belongs to slots, not to batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evenseg.components.mixers import ClassMix, CutMix, images_of, mix
from evenseg.functional import random
from evenseg.functional.mixing import box_mask
from evenseg.types import PseudoTarget, Step

BATCH, CLASSES, SIZE = 4, 3, 32


def make_step(slot: int = 0, index: int = 5) -> Step:
    return Step(index, 10, random.generator(0, "step", index), 0, slot, slot)


def make_target(seed: int = 0) -> PseudoTarget:
    generator = torch.Generator().manual_seed(seed)
    prob = torch.rand(BATCH, CLASSES, SIZE, SIZE, generator=generator).softmax(1)
    weight = torch.rand(BATCH, SIZE, SIZE, generator=generator)
    valid = torch.rand(BATCH, SIZE, SIZE, generator=generator) < 0.8
    truth = torch.randint(0, CLASSES, valid.shape, generator=generator)
    return PseudoTarget(prob, weight, valid, truth, {"place": torch.arange(valid.numel()).view(valid.shape)})


def slots(first: int = 0, batch: int = BATCH) -> torch.Tensor:
    """Images that are all of the number of their slot."""
    return torch.arange(first, first + batch).float().view(-1, 1, 1, 1).expand(batch, 3, SIZE, SIZE)


def test_one_mask_for_image_and_target():
    target, pasted = make_target(), make_target(1)
    mask = torch.rand(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) < 0.5
    for given in (None, pasted):
        source = pasted if given else target
        image, mixed = mix(slots(), target, mask, given)
        for i, partner in enumerate([1, 0, 3, 2]):
            inside = mask[i, 0]
            assert torch.equal(image[i], torch.where(inside, float(partner), float(i)).expand(3, -1, -1))
            assert torch.equal(mixed.prob[i], torch.where(inside, source.prob[partner], target.prob[i]))
            assert torch.equal(mixed.weight[i], torch.where(inside, source.weight[partner], target.weight[i]))
            assert torch.equal(mixed.valid[i], torch.where(inside, target.valid[partner], target.valid[i]))
            assert torch.equal(mixed.truth[i], torch.where(inside, target.truth[partner], target.truth[i]))


MIXERS = [
    CutMix(),
    CutMix(probability=0.5),
    CutMix(area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), probability=0.5),
    CutMix(area=(0.25, 0.5), boxes=3),
    ClassMix(),
]


@pytest.mark.parametrize("mixer", MIXERS, ids=["cutmix", "half", "unimatch", "cps", "classmix"])
def test_a_part_of_the_batch_is_mixed_as_in_the_whole(mixer):
    target = make_target()
    whole, mixed = mixer(slots(), target, make_step())
    for first in (0, 2):
        part = images_of(target, slice(first, first + 2))
        image, small = mixer(slots(first, 2), part, make_step(slot=first))
        assert torch.equal(image, whole[first : first + 2])
        assert all(torch.equal(a, b[first : first + 2]) for a, b in zip(small[:4], mixed[:4], strict=True))
        assert torch.equal(small.maps["place"], mixed.maps["place"][first : first + 2])
    assert not torch.equal(mixer(slots(), target, make_step(index=6))[0], whole)


def test_area_and_probability_of_cutmix():
    mixer = CutMix(area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), probability=0.5)
    shares = []
    for index in range(150):
        image, _ = mixer(slots(), make_target(), make_step(index=index))
        shares += (image != slots()).float().mean((1, 2, 3)).tolist()
    boxes = torch.tensor([share for share in shares if share])
    assert len(boxes) / len(shares) == pytest.approx(0.5, abs=0.1)
    assert boxes.max() <= 0.4
    assert boxes.min() > 0.01  # both sides are rounded down
    assert boxes.mean().item() == pytest.approx(0.21, abs=0.03)
    assert boxes.std().item() == pytest.approx(0.38 / 12**0.5, abs=0.02)  # uniform


def official_sides(area, r, boxes, size):
    """BoxMaskGenerator of CPS's code, with its names: a box's height and width in pixels."""
    y_props = np.exp(r * np.log(area))
    x_props = area / y_props
    fac = np.sqrt(1.0 / boxes)
    return np.round(y_props * fac * size), np.round(x_props * fac * size)


def test_three_boxes_are_those_of_cps():
    """Sides as official, each flips what it covers, and a single box is drawn as if there were no option."""
    step, boxes = make_step(), 3
    uniform = random.slot_uniform(0, step.index, 0, BATCH, 5 * boxes, stream="cutmix").view(BATCH, boxes, 5)
    image, _ = CutMix(area=(0.25, 0.5), boxes=boxes)(slots(), make_target(), step)
    for i, partner in enumerate([1, 0, 3, 2]):
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        for r, v, h, _, a in uniform[i].tolist():
            height, width = official_sides(0.25 + 0.25 * a, r, boxes, SIZE)
            y0, x0 = int(v * (SIZE - height + 1)), int(h * (SIZE - width + 1))
            mask[y0 : y0 + int(height), x0 : x0 + int(width)] ^= True
        assert 0 < mask.mean() < 0.6
        assert torch.equal(image[i, 0], torch.where(torch.from_numpy(mask), float(partner), float(i)))
    one = random.slot_uniform(0, step.index, 0, BATCH, 5, stream="cutmix")
    alone = CutMix()(slots(), make_target(), step)[0]
    assert torch.equal((alone != slots())[:, :1], box_mask(one[:, :3], SIZE, SIZE))


def test_classmix_pastes_the_classes_of_the_pasted_target():
    target, pasted = make_target(), make_target(1)
    image, _ = ClassMix()(slots(), target, make_step(), pasted)
    for i, partner in enumerate([1, 0, 3, 2]):
        gone = (image[i, 0] == partner) & target.valid[partner]
        label = pasted.label[partner]
        whole = [c for c in range(CLASSES) if gone[(label == c) & target.valid[partner]].all()]
        assert len(whole) == CLASSES // 2
        assert gone.sum() == sum(((label == c) & target.valid[partner]).sum() for c in whole)


@pytest.mark.parametrize("arguments", [{"area": (0.5, 0.1)}, {"aspect": (3.0, 1.0)}])
def test_a_range_begins_with_its_low_end(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}: the low end"):
        CutMix(**arguments)
