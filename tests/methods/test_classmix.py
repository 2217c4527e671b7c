"""ClassMix against a transcription of its official training loop."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.mixing import choose_half_of_classes

from ..contract.conftest import make_batch, make_method, make_step
from .helpers import assert_same_step

THRESHOLD = 0.3
PARTNER = torch.tensor([1, 0, 3, 2])
BALANCED = {"name": "classmix", "threshold": THRESHOLD, "balanced": True}  # labels of several classes


def given(method, step, batch):
    """For each image the pixels that it gives to its neighbour: those of the classes that the mixer draws."""
    image = batch.unlabeled.weak
    target = copy.deepcopy(method).pseudo_target(image, step)._replace(valid=batch.unlabeled.valid)
    slot = torch.arange(4.0).view(-1, 1, 1, 1).expand_as(image)
    received = (method.mixer(slot, target, step)[0] != slot)[:, 0]
    return received[PARTNER]


def official_step(model, ema_model, batch, mix_mask):
    """trainSSL.py from ``softmax_u_w`` on, with its names; the image that is pasted onto is each image's neighbour."""
    images = batch.unlabeled.weak
    with torch.no_grad():
        softmax_u_w = ema_model(images).logits.softmax(1)
    mask = mix_mask[PARTNER].unsqueeze(1).float()  # what an image receives

    def mixed(data):
        return mask * data[PARTNER] + (1 - mask) * data

    inside = mixed(batch.unlabeled.valid.unsqueeze(1).float())[:, 0] > 0
    logits_u_s = model(mixed(batch.unlabeled.strong[0])).logits
    max_probs, pseudo_label = mixed(softmax_u_w).max(1)
    unlabeled_weight = (max_probs[inside] >= THRESHOLD).float().mean()
    loss = F.cross_entropy(logits_u_s, pseudo_label, reduction="none") * unlabeled_weight
    return unlabeled_weight, loss[inside].mean()


def test_a_step_is_the_official_one():
    method = make_method(BALANCED)
    for index in range(2):  # the teacher's running statistics are its own, and its weights drift apart
        sum(method(make_batch(method, seed=index), make_step(index)).losses.values()).backward()
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter -= 0.05 * parameter.grad
        method.student.zero_grad()
        method.on_step_end(make_step(index))
    batch, step = make_batch(method, seed=9), make_step(2)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher.network)
    mask = given(method, step, batch)
    assert 0 < mask.float().mean() < 1
    supervised = F.cross_entropy(student(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    share, unsupervised = official_step(student, teacher, batch, mask)
    assert 0.05 < share < 0.95
    assert_same_step(method, batch, step, student, supervised=supervised, unsupervised=unsupervised, atol=1e-5)
    for (name, got), expected in zip(method.teacher.network.named_buffers(), teacher.buffers(), strict=True):
        torch.testing.assert_close(got, expected, msg=name)  # it has normalised by this batch, and remembers it


def test_an_image_gives_half_of_its_classes_away():
    method = make_method(BALANCED)
    batch, step = make_batch(method), make_step(0)
    label = copy.deepcopy(method).pseudo_target(batch.unlabeled.weak, step).label
    mask = given(method, step, batch)
    for image in range(4):
        valid = batch.unlabeled.valid[image]
        classes = label[image][valid].unique().tolist()
        # a pixel shows at the neighbour whatever is valid there, but only valid ones are given
        given_classes = [c for c in classes if mask[image][valid & (label[image] == c)].any()]
        assert len(given_classes) == len(classes) // 2
        for c in classes:
            assert mask[image][valid & (label[image] == c)].all() == (c in given_classes)


@pytest.mark.parametrize("classes", range(1, 6))
def test_half_of_an_odd_number_is_rounded_down(classes):
    label = torch.arange(10).remainder(classes).view(1, 2, 5)
    key = torch.rand(1, 5, generator=torch.Generator().manual_seed(0))
    chosen = choose_half_of_classes(label, torch.ones_like(label, dtype=torch.bool), key)
    assert chosen.sum() == classes // 2
    assert not chosen[0, classes:].any()


@pytest.mark.parametrize(("weighting", "zero"), [("fraction", True), ("pixel", True), ("none", False)])
def test_nothing_sure_teaches_nothing(weighting, zero):
    method = make_method({"name": "classmix", "threshold": 1.0, "weighting": weighting})
    loss = method(make_batch(method), make_step(0)).losses["unsupervised"]
    assert (loss.item() == 0) == zero
    assert loss.requires_grad


def test_the_voc_preset_leaves_the_colours_as_they_are():
    assert make_method({"name": "classmix", "preset": "voc"}).views.strong == 0
    assert make_method({"name": "classmix"}).views.strong == 1
