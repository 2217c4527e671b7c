"""Mean Teacher against the loss and the average of TorchSemiSeg."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from ..contract.conftest import make_batch, make_method, make_step
from .helpers import assert_same_step


def test_official_compares_all_images_and_keeps_the_decay_constant():
    method = make_method({"name": "mean_teacher", "preset": "official"})
    batch, step = make_batch(method), make_step(0)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter += 0.01
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher.network)
    labeled = student(batch.labeled.image).logits
    supervised = F.cross_entropy(labeled, batch.labeled.label, ignore_index=255)
    with torch.no_grad():
        target = [teacher(image).logits.softmax(1) for image in (batch.unlabeled.weak, batch.labeled.image)]
    predicted = [student(batch.unlabeled.weak).logits.softmax(1), labeled.softmax(1)]
    inside = torch.cat([batch.unlabeled.valid, torch.ones_like(batch.unlabeled.valid)])  # padding does not count
    difference = (torch.cat(predicted) - torch.cat(target)).square().movedim(1, -1)[inside]
    consistency = 100 * difference.mean()
    assert_same_step(method, batch, step, student, supervised=supervised, unsupervised=consistency, atol=1e-4)

    method.on_step_end(step)
    new = dict(method.student.named_parameters())
    for (name, got), old in zip(method.teacher.network.named_parameters(), teacher.parameters(), strict=True):
        torch.testing.assert_close(got, 0.99 * old + 0.01 * new[name], msg=name)


@pytest.mark.parametrize("name", ["mean_teacher", "cutmix_seg"])
def test_the_first_step_of_a_warm_up_copies_the_student(name):
    method = make_method({"name": name})
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter += 0.01
    method.on_step_end(make_step(0))
    pairs = zip(method.teacher.network.parameters(), method.student.parameters(), strict=True)
    assert all(torch.equal(teacher, student) for teacher, student in pairs)
