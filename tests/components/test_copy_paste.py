"""Adaptive Copy-Paste of AEL."""

import pytest
import torch

from evenseg.components.copy_paste import AdaptiveCopyPaste
from evenseg.components.requests import LAG
from evenseg.types import Batch, DataFacts, LabeledBatch, PasteSource, Step

C, NAMES = 5, ("road", "car", "sign", "rider", "train")
PRESENCE = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
DATA = DataFacts(NAMES, torch.ones(C, dtype=torch.int64), 3, 0, 8, 0, PRESENCE)


def step(index=0, slot=0):
    return Step(index, 1000, torch.Generator(), seed=3, labeled_slot=slot)


def batch(size=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, C, (size, 12, 12), generator=g)
    other = torch.randint(0, C, (size, 12, 12), generator=g)
    label[:, 0], other[:, 1] = 255, 255
    images = torch.rand(2, size, 3, 12, 12, generator=g)
    maps = {"subclass": 10 * label}
    source = PasteSource(images[1], other, torch.arange(size), {"subclass": 10 * other})
    return Batch(LabeledBatch(images[0], label, torch.arange(size), maps, source))


def pasted_classes(before, after):
    """Per image the classes whose pixels came from the source, after checking that all of them did."""
    found = []
    for i in range(len(before.label)):
        changed = (after.image[i] != before.image[i]).any(0)
        classes = before.paste.label[i][changed].unique().tolist()
        assert 255 not in classes
        inside = torch.isin(before.paste.label[i], torch.tensor(classes, dtype=torch.int64))
        assert torch.equal(changed, inside)
        for name in ("image", "label"):
            new, own, source = (getattr(each, name)[i] for each in (after, before, before.paste))
            assert torch.equal(new, torch.where(inside, source, own))
        own, source = before.maps["subclass"][i], before.paste.maps["subclass"][i]
        assert torch.equal(after.maps["subclass"][i], torch.where(inside, source, own))
        found.append(set(classes))
    return found


@pytest.mark.parametrize("classes", [1, 3])
def test_all_pixels_of_so_many_classes_come_from_the_source(classes):
    before = batch()
    after = AdaptiveCopyPaste(classes=classes, data=DATA).prepare(before, step())
    found = pasted_classes(before.labeled, after.labeled)
    assert {len(each) for each in found} == {classes}
    assert len({frozenset(each) for each in found}) > 1  # each image its own


def test_the_worst_class_comes_most_often_and_excluded_ones_never():
    part = AdaptiveCopyPaste(classes=1, temperature=0.1, excluded=["rider"], data=DATA)
    part.bank.value.copy_(torch.tensor([0.9, 0.9, 0.2, 0.0, 0.9]))
    part.bank.observations.fill_(1_000_000)  # the start weighs nothing any more
    before, counts = batch(size=8), torch.zeros(C)
    for index in range(40):
        for each in pasted_classes(before.labeled, part.prepare(before, step(index)).labeled):
            counts[list(each)] += 1
    assert counts[3] == 0
    assert counts.argmax() == 2
    share = torch.tensor([0.1, 0.1, 0.8, -torch.inf, 0.1]).div(0.1).softmax(0)  # Eq. 9 with T = 0.1
    assert abs(counts[2] / counts.sum() - share[2]) < 0.05


def test_with_replacement_there_may_be_fewer():
    part, before = AdaptiveCopyPaste(replacement=True, data=DATA), batch()
    sizes = [
        len(each)
        for index in range(10)
        for each in pasted_classes(before.labeled, part.prepare(before, step(index)).labeled)
    ]
    assert max(sizes) == 3
    assert min(sizes) < 3


def test_nothing_of_the_classes_in_the_source_leaves_the_image():
    before = batch()
    before.labeled.paste.label[:] = 255
    after = AdaptiveCopyPaste(classes=C, data=DATA).prepare(before, step()).labeled
    assert torch.equal(after.image, before.labeled.image)
    assert torch.equal(after.label, before.labeled.label)


def test_all_classes_give_the_source_wherever_it_is_labeled():
    before = batch()
    after = AdaptiveCopyPaste(classes=C, data=DATA).prepare(before, step()).labeled
    labeled = before.labeled.paste.label != 255
    assert torch.equal(after.label, torch.where(labeled, before.labeled.paste.label, before.labeled.label))


def test_without_a_source_nothing_happens():
    plain = batch()._replace(labeled=batch().labeled._replace(paste=None))
    assert AdaptiveCopyPaste(data=DATA).prepare(plain, step()) is plain


def test_draws_belong_to_slots():
    part, whole = AdaptiveCopyPaste(data=DATA), batch()
    second = whole.labeled._replace(
        image=whole.labeled.image[4:],
        label=whole.labeled.label[4:],
        maps={},
        paste=PasteSource(*(value[4:] for value in whole.labeled.paste[:3])),
    )
    after = part.prepare(whole, step()).labeled
    assert torch.equal(part.prepare(Batch(second), step(slot=4)).labeled.image, after.image[4:])


def test_sources_that_contain_the_first_class_are_asked_for():
    part = AdaptiveCopyPaste(classes=1, source="containing", data=DATA)
    part.step_end(step(0))
    wanted, images = part.requests.wanted_at(step(LAG), 8), part.requests.images_at(LAG)
    assert len(set(wanted.tolist())) > 1
    for c, image in zip(wanted.tolist(), images, strict=True):
        assert (image == -1) if not PRESENCE[c].any() else PRESENCE[c, image]
    before = batch()
    found = pasted_classes(before.labeled, part.prepare(before, step(LAG)).labeled)
    assert found == [{c} for c in wanted.tolist()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"excluded": ["sky"]}, "no class 'sky'; there are road, car"),
        ({"excluded": list(NAMES)}, "no class is left"),
        ({"scale": (1.5, 2.0)}, "half of the draws lie below 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveCopyPaste(data=DATA, **options)
