"""AEL against a transcription of Eq. 1, 3, 10, 12 and 13."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.components.adaptive_cutmix import AdaptiveCutMix
from evenseg.components.base import Mixer
from evenseg.components.mixers import CutMix

from ..contract.conftest import CLASSES, make_batch, make_method, make_step
from .helpers import assert_same_step


class Halves(Mixer):
    """The right half of the neighbour: a mixture that can be written out."""

    def forward(self, image, target, step, pasted=None, index=None):
        order, half = torch.tensor([1, 0, 3, 2]), image.shape[-1] // 2

        def mix(values):
            mixed = values.clone()
            mixed[..., half:] = values[order][..., half:]
            return mixed

        return mix(image), target._replace(prob=mix(target.prob), weight=mix(target.weight), valid=mix(target.valid))


def made(**options):
    method = make_method({"name": "ael", **options})
    method.mixer = Halves()
    return method


def rates_of(method, *values):
    """Fill the bank with confidences; returns Eq. 10."""
    bank = method.components[0]
    bank.value.copy_(torch.tensor(values))
    bank.observations.fill_(1_000_000)
    return (1 - torch.tensor(values)) / (1 - min(values))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_step_is_eq_1_3_12_and_13(gamma):
    method = made(parts=["DR", "AES"], gamma=gamma, class_map="teacher", unsupervised_weight=0.7)
    method.components[-1].rate = lambda: (torch.arange(CLASSES) % 2).float()  # keep odd classes, all of them
    batch, step = make_batch(method), make_step(3)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher)
    supervised = F.cross_entropy(student(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    order = torch.tensor([1, 0, 3, 2])
    prob = teacher(batch.unlabeled.weak).logits.softmax(1)
    image, valid = batch.unlabeled.weak.clone(), batch.unlabeled.valid.clone()
    for values in (image, prob, valid):
        values[..., 24:] = values[order][..., 24:]
    m, yhat = prob.max(1)
    w = m**gamma * (yhat % 2 == 1) * valid
    ce = F.cross_entropy(student(image).logits, yhat, reduction="none")
    per_image = [(w[i] * ce[i]).sum() / w[i].sum() if w[i].sum() > 0 else 0 * ce[i].sum() for i in range(4)]
    assert sum(float(w[i].sum()) > 0 for i in range(4)) >= 2
    unsupervised = 0.7 * sum(per_image) / 4
    assert_same_step(method, batch, step, student, supervised=supervised, unsupervised=unsupervised, atol=1e-5)


def test_sampling_uses_the_student_class_and_the_bank():
    method = made(parts=["AES"])
    rates = rates_of(method, 0.9, 0.5, 0.2, 0.6, 0.8)
    torch.testing.assert_close(method.components[-1].rate(), rates)
    batch = make_batch(method)
    kept = method(batch, make_step(3)).log["weight"]
    with torch.no_grad():
        image, _ = method.mixer(
            batch.unlabeled.weak,
            method.pseudo_target(batch.unlabeled.weak, make_step(3))._replace(valid=batch.unlabeled.valid),
            None,
        )
        label = copy.deepcopy(method.student)(image).logits.argmax(1)
    expected = rates[label]
    valid = batch.unlabeled.valid.clone()
    valid[..., 24:] = valid[torch.tensor([1, 0, 3, 2])][..., 24:]
    share = (expected * valid).mean()
    spread = (expected * (1 - expected)).sum().sqrt() / label.numel()
    assert abs(kept - share) <= 4 * spread + 1e-3


def test_all_confidences_times_a_constant_change_nothing():
    batch = make_batch(made())
    losses = []
    for factor in (1.0, 0.3):
        method = made(parts=["DR"])
        dr = method.components[-1]
        original = dr.refine
        dr.refine = lambda t, w, s, f=factor, o=original: o(t, w, s)._replace(weight=f * o(t, w, s).weight)
        losses.append(method(make_batch(method), make_step(0)).losses["unsupervised"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert batch.unlabeled is not None


def test_an_image_of_which_nothing_is_kept_teaches_nothing():
    method = made(parts=["DR"])
    batch = make_batch(method)
    batch.unlabeled.valid[:2] = False  # the first mixture is of the first two
    batch.unlabeled.weak.requires_grad_()
    output = method(batch, make_step(0))
    output.losses["unsupervised"].backward()
    assert torch.isfinite(output.losses["unsupervised"])
    method.student.zero_grad()
    none = made(parts=["DR"])
    batch = make_batch(none)
    batch.unlabeled.valid[:] = False
    output = none(batch, make_step(0))
    output.losses["unsupervised"].backward()
    assert output.losses["unsupervised"] == 0
    assert all((p.grad == 0).all() for p in none.student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("parts", "classes", "mixer"),
    [
        ([], ["ConfidenceBank"], CutMix),
        (["DR"], ["ConfidenceBank", "DynamicReweighting"], CutMix),
        (["AES"], ["ConfidenceBank", "EqualizationSampling"], CutMix),
        (["ACM"], ["ConfidenceBank"], AdaptiveCutMix),
        (["ACP"], ["ConfidenceBank", "AdaptiveCopyPaste"], CutMix),
        (
            ["DR", "AES", "ACM", "ACP"],
            ["ConfidenceBank", "DynamicReweighting", "EqualizationSampling", "AdaptiveCopyPaste"],
            AdaptiveCutMix,
        ),
    ],
)
def test_table_3_is_a_list_of_parts(parts, classes, mixer):
    method = make_method({"name": "ael", "parts": parts})
    assert [type(part).__name__ for part in method.components] == classes
    assert type(method.mixer) is mixer
    views = method.wanted_views()
    assert views.partners == ("ACM" in parts)
    assert (views.paste is not None) == ("ACP" in parts)
    assert {id(m.bank) for m in method.modules() if hasattr(m, "bank")} <= {id(method.components[0])}
    assert torch.isfinite(method(make_batch(method), make_step(0)).losses["unsupervised"])


def test_the_official_term_on_labeled_images_is_added():
    official = {"name": "ael", "parts": ["DR"], "labeled_consistency": True, "normalize": "batch"}
    method, plain = make_method(official), make_method({**official, "labeled_consistency": False})
    batch, step = make_batch(method), make_step(0)
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher)
    prob = teacher(batch.labeled.image).logits.softmax(1)
    m, yhat = prob.max(1)  # the ignored part of the label is taught too
    ce = F.cross_entropy(student(batch.labeled.image).logits, yhat, reduction="none")
    extra = ((m**2) * ce).sum() / (m**2).sum()
    with_term, without = (each(batch, step).losses["unsupervised"].item() for each in (method, plain))
    assert with_term == pytest.approx(without + extra.item(), rel=1e-4)


def test_decay_of_the_teacher_starts_with_a_copy_and_reaches_its_end():
    method = make_method({"name": "ael"})
    assert [min(1 - 1 / (k + 1), method.teacher.decay) for k in (0, 1, 2, 99)] == [0, 0.5, pytest.approx(2 / 3), 0.99]
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    method.on_step_end(make_step(0))
    for mine, theirs in zip(method.teacher.network.parameters(), method.student.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_no_gradient_flows_into_the_teacher_or_the_bank():
    method = make_method({"name": "ael"})
    output = method(make_batch(method), make_step(0))
    sum(output.losses.values()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not any(buffer.requires_grad for buffer in method.buffers())
