"""CutMix-Seg against a transcription of train_seg_semisup_mask_mt.py and optim_weight_ema.py."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from ..contract.conftest import make_batch, make_method, make_step
from .helpers import assert_same_step

THRESHOLD = 0.3
PARTNER = torch.tensor([1, 0, 3, 2])


def mixing_mask(method, image, step):
    """(B, 1, H, W) in {0, 1}: where the method's mixer shows the partner."""
    slot = torch.arange(len(image)).float().view(-1, 1, 1, 1).expand_as(image)
    target = copy.deepcopy(method).pseudo_target(image, step)
    return (method.mixer(slot, target, step)[0] != slot)[:, :1].float()


def official_step(student, teacher, batch, mask):
    """Supervised and consistency loss of one iteration, both batches of unlabeled images being ``batch``'s."""
    image = batch.unlabeled.weak
    with torch.no_grad():
        logits0 = teacher(image).logits
        prob0, prob1 = logits0.softmax(1), logits0.softmax(1)[PARTNER]
    student_logits = student(image * (1 - mask) + image[PARTNER] * mask).logits
    teacher_prob = prob0 * (1 - mask) + prob1 * mask
    inside = batch.unlabeled.valid * (1 - mask[:, 0]) + batch.unlabeled.valid[PARTNER] * mask[:, 0]
    confidence = ((teacher_prob.max(1)[0] >= THRESHOLD) * inside).sum() / inside.sum()  # ours: inside the images
    difference = ((student_logits.softmax(1) - teacher_prob) ** 2).sum(1)
    return confidence, (difference * confidence * inside).sum() / inside.sum()


def test_official_is_the_authors_step():
    method = make_method({"name": "cutmix_seg", "preset": "official", "threshold": THRESHOLD})
    assert method.views.strong == 0
    for index in range(3):  # running statistics and weights of student and teacher drift apart
        batch = make_batch(method, seed=index)
        sum(method(batch, make_step(index)).losses.values()).backward()
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter -= 0.05 * parameter.grad
        method.student.zero_grad()
        method.on_step_end(make_step(index))
    batch, step = make_batch(method, seed=9), make_step(3)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher.network)
    assert teacher.training
    supervised = F.cross_entropy(student(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    mask = mixing_mask(method, batch.unlabeled.weak, step)
    confidence, consistency = official_step(student, teacher, batch, mask)
    assert 0.05 < confidence < 0.95
    assert_same_step(method, batch, step, student, supervised=supervised, unsupervised=consistency, atol=1e-5)

    method.on_step_end(step)
    averaged = zip(method.teacher.network.state_dict().items(), teacher.state_dict().values(), strict=True)
    for (name, got), old in averaged:
        new = method.student.state_dict()[name]
        expected = 0.99 * old + (1 - 0.99) * new if old.is_floating_point() else new
        torch.testing.assert_close(got, expected, msg=name)
