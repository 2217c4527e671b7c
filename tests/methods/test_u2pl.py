"""U2PL against a transcription of its training loop, with the draws that the method makes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evenseg.components.base import Mixer
from evenseg.errors import InputError
from evenseg.functional.cells import to_cells
from evenseg.functional.random import slot_noise, spread

from ..contract.conftest import CLASSES, SIZE, U2PL, make_batch, make_method, make_step

WEIGHTS = {"unsupervised_weight": 1.0, "contrast_weight": 1.0}  # the paper's

SPEC = {
    "name": "u2pl",
    **U2PL,
    **WEIGHTS,
    "balanced": True,
    "anchor_confidence": 0.2,
    "low_rank": 2,
    "high_rank": 4,
    "contrast_percent": 40.0,
}
TOTAL = 10


@pytest.fixture
def trained():
    """A method that has made two steps: a teacher of other weights and statistics, queues with content."""
    method = make_method(SPEC)
    method.mixer = Mixer()  # which mixes nothing
    for index in range(2):
        sum(method(make_batch(method, seed=index), make_step(index)).losses.values()).backward()
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter -= 0.05 * parameter.grad
        method.student.zero_grad()
        method.on_step_end(make_step(index))
    return method


def unsupervised_loss(predict, target, percent, pred_teacher):
    """compute_unsupervised_loss of loss_helper.py with its names; pixels without a target do not count."""
    prob = torch.softmax(pred_teacher, dim=1)
    entropy = -torch.sum(prob * torch.log(prob + 1e-10), dim=1)
    thresh = np.percentile(entropy[target != 255].numpy(), percent)
    pixels, target = (target != 255).sum(), target.clone()
    target[(entropy > thresh) & (target != 255)] = 255
    weight = pixels / torch.sum(target != 255)
    return weight * F.cross_entropy(predict, target, ignore_index=255)


def contrast(method, rep, rep_teacher, prob, label, entropy, alpha_t, step, labeled):
    """The contrastive term class by class: of the paper, with the method's random numbers.

    All are at the resolution of the embeddings, (B, ..., P); ``queue`` are the lists of each class.
    """
    thresholds = alpha_t
    images, pixels = label.shape
    noise = torch.cat(
        [slot_noise(step.seed, step.index, 0, images // 2, pixels, stream=f"unreliable {each}") for each in (0, 1)]
    )
    pool_noise = slot_noise(step.seed, step.index, 0, CLASSES, U2PL["pool"], stream="unreliable pool")
    queues = copy.deepcopy(method.contrast.queues)
    order = prob.sort(dim=1, descending=True).indices
    known = label >= 0
    is_labeled = (torch.arange(images) < labeled)[:, None].expand_as(label)
    low = known & (is_labeled | (entropy <= thresholds[0]))
    high = known & ~is_labeled & (entropy >= thresholds[1])
    total, present = torch.zeros(()), 0
    for c in range(CLASSES):
        start, size = int(queues.start[c]), int(queues.size[c])
        for image in range(images):  # dequeue_and_enqueue
            if image < labeled:
                candidate = known[image] & (label[image] != c) & (order[image, :2] == c).any(0)
            else:
                candidate = high[image] & (order[image, 2:4] == c).any(0)
            chosen = candidate.nonzero().flatten()
            for pixel in chosen[noise[image, chosen].argsort()[: U2PL["queued"]]]:
                place = start + int(queues.entered[c]) % size
                queues.row[place] = F.normalize(rep_teacher[image, pixel], dim=0)
                queues.entered[c] += 1
        reliable = low & (label == c)
        if not reliable.any():
            continue
        present += 1
        centre = rep_teacher[reliable].mean(0)
        anchors = reliable & (prob[:, c] > method.contrast.confidence)
        filled = int(queues.filled[c])
        if not anchors.any() or filled == 0:
            continue
        chosen = noise[anchors].argsort()[: U2PL["anchors"]]
        loss = []
        for anchor, key in zip(rep[anchors][chosen], noise[anchors][chosen], strict=True):
            pool = queues.row[start + pool_noise[c] % filled]
            negative = pool[spread(key, U2PL["negatives"]) % U2PL["pool"]]
            logits = torch.cosine_similarity(anchor[None], torch.cat([centre[None], negative])) / 0.5
            loss.append(F.cross_entropy(logits[None], torch.zeros(1, dtype=torch.int64)))
        total = total + torch.stack(loss).mean()
    return total / present, queues


@pytest.mark.parametrize("index", [0, 4, 9])
def test_a_step_is_that_of_the_paper(trained, index):
    method, step = trained, make_step(index, total=TOTAL)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher.network)
    batch = make_batch(method, seed=7)
    image, valid = batch.unlabeled.weak, batch.unlabeled.valid
    with torch.no_grad():
        teacher.eval()
        label_u = teacher(image).logits.argmax(1).masked_fill(~valid, 255)
        teacher.train()
        both = torch.cat([batch.labeled.image, image])
        out_t = teacher(both)
        pred_u_large_teacher = out_t.logits[4:]
    outs = student(both)
    share = 1 - index / (TOTAL - 1)
    sup_loss = F.cross_entropy(outs.logits[:4], batch.labeled.label, ignore_index=255)
    unsup_loss = unsupervised_loss(outs.logits[4:], label_u, 100 - 20 * share, pred_u_large_teacher)

    entropy = torch.special.entr(pred_u_large_teacher.softmax(1)).sum(1)
    known = entropy[valid].double().numpy()
    alpha_t = 40 * share
    thresholds = [np.float32(np.percentile(known, percent)) for percent in (alpha_t, 100 - alpha_t)]
    rep, rep_t = outs.heads["representation"], out_t.heads["representation"]
    size, grid = rep.shape[-2:], tuple(out_t.coarse["class"].shape[-2:])

    def shrink(value, outside):
        return to_cells(value, grid, (64, 64), outside=outside)[..., : size[0], : size[1]].flatten(1)

    label = shrink(torch.cat([batch.labeled.label, label_u]), 255)
    entropy = shrink(torch.cat([torch.zeros(4, SIZE, SIZE), entropy]), 0.0)
    prob = out_t.coarse["class"][..., : size[0], : size[1]].softmax(1).flatten(2)
    rows = [each.permute(0, 2, 3, 1).flatten(1, 2) for each in (rep, rep_t)]
    contra_loss, queues = contrast(
        method, *rows, prob, label.masked_fill(label == 255, -1), entropy, thresholds, step, 4
    )
    assert contra_loss > 0
    expected = (sup_loss, unsup_loss, contra_loss)
    sum(expected).backward()
    output = method(batch, step)
    assert output.losses.keys() == {"supervised", "unsupervised", "negative_contrast"}
    for got, value in zip(output.losses.values(), expected, strict=True):
        assert got.item() == pytest.approx(value.item(), rel=1e-5)
    sum(output.losses.values()).backward()
    for (name, got), value in zip(method.student.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(got.grad, value.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert torch.equal(method.contrast.queues.entered, queues.entered)
    torch.testing.assert_close(method.contrast.queues.row, queues.row)
    for (name, got), value in zip(method.teacher.network.named_buffers(), teacher.buffers(), strict=True):
        torch.testing.assert_close(got, value, msg=name)


@pytest.mark.parametrize(("index", "kept"), [(0, 0.8), (5, 0.9), (10, 1.0)])
def test_less_is_dropped_from_step_to_step_and_nothing_in_the_last_one(index, kept):
    method = make_method(SPEC)
    method.mixer = Mixer()  # padding is not pasted
    batch = make_batch(method)
    output = method(batch, make_step(index, total=11))
    share = output.log["weight"].item() * batch.unlabeled.valid.numel() / batch.unlabeled.valid.sum().item()
    assert share == pytest.approx(kept, abs=1e-3)


def test_the_contrast_moves_the_student_and_nothing_else():
    method = make_method(SPEC)
    loss = method(make_batch(method), make_step(0)).losses["negative_contrast"]
    loss.backward()
    assert method.student.heads["representation"][-1].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in method.teacher.parameters())


def test_the_teacher_starts_as_a_copy_after_the_supervised_steps():
    method = make_method({**SPEC, "supervised_steps": 3})
    assert [method.teacher.decay_at(method.ema_step(index)) for index in range(6)] == [
        0,
        0,
        0,
        0,
        0.5,
        pytest.approx(2 / 3),
    ]


def test_a_label_in_no_image_leaves_nothing_to_contrast():
    method = make_method({**SPEC, "contrast_percent": 0.0})
    batch = make_batch(method)
    batch = batch._replace(labeled=batch.labeled._replace(label=torch.full_like(batch.labeled.label, 255)))
    batch = batch._replace(unlabeled=batch.unlabeled._replace(valid=torch.zeros_like(batch.unlabeled.valid)))
    losses = method(batch, make_step(3)).losses
    assert {name: value.item() for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"drop_percent": 101.0}, "drop_percent"), ({"low_rank": 3, "high_rank": 3}, "high_rank")],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_method({**SPEC, **options})
