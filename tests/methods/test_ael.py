"""AEL against a transcription of Eq. 1, 3, 10, 12 and 13."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.components.adaptive_cutmix import AdaptiveCutMix
from evenseg.components.base import Mixer
from evenseg.components.mixers import CutMix
from evenseg.functional.losses import weighted_cross_entropy

from ..contract.conftest import CLASSES, make_batch, make_method, make_step
from .helpers import assert_same_step


def mixed(values):
    """The right half of the neighbour."""
    result = values.clone()
    result[..., 24:] = values[[1, 0, 3, 2]][..., 24:]
    return result


class Halves(Mixer):
    """A mixture that can be written out."""

    def forward(self, image, target, step, pasted=None, index=None):
        fields = {name: mixed(getattr(target, name)) for name in ("prob", "weight", "valid")}
        return mixed(image), target._replace(**fields)


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
    image, valid = mixed(batch.unlabeled.weak), mixed(batch.unlabeled.valid)
    # probabilities of mixed logits are mixed probabilities: a pixel is of one image
    prob = mixed(teacher(batch.unlabeled.weak).logits).softmax(1)
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
        label = copy.deepcopy(method.student)(mixed(batch.unlabeled.weak)).logits.argmax(1)
    expected = rates[label]
    share = (expected * mixed(batch.unlabeled.valid)).mean()
    spread = (expected * (1 - expected)).sum().sqrt() / label.numel()
    assert abs(kept - share) <= 4 * spread + 1e-3


def test_all_confidences_times_a_constant_change_nothing():
    losses = []
    for factor in (1.0, 0.3):
        method = made(parts=["DR"])
        dr = method.components[-1]
        original = dr.refine
        dr.refine = lambda t, w, s, f=factor, o=original: o(t, w, s)._replace(weight=f * o(t, w, s).weight)
        losses.append(method(make_batch(method), make_step(0)).losses["unsupervised"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_without_power_threshold_and_ignored_pixels_it_is_plain_cross_entropy():
    method = made(parts=["DR"], gamma=0.0)
    batch, step = make_batch(method), make_step(0)
    batch.unlabeled.valid[:] = True
    student, teacher = copy.deepcopy(method.student), copy.deepcopy(method.teacher)
    image, label = (mixed(values) for values in (batch.unlabeled.weak, teacher(batch.unlabeled.weak).logits.argmax(1)))
    expected = F.cross_entropy(student(image).logits, label)
    assert method(batch, step).losses["unsupervised"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_gradient_is_that_of_eq_12_and_none_reaches_the_confidence():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(3, CLASSES, 4, 6, generator=g, dtype=torch.float64).float().requires_grad_()
    label = torch.randint(0, CLASSES, (3, 4, 6), generator=g)
    confidence = torch.rand(3, 4, 6, generator=g).requires_grad_()
    keep = torch.rand(3, 4, 6, generator=g) < 0.5
    keep[1] = False
    weight = confidence**2 * keep
    weighted_cross_entropy(z, label, weight, normalize="image").backward()
    w = weight.detach()
    share = w / w.sum((1, 2), keepdim=True).clamp(min=1e-9)
    one_hot = F.one_hot(label, CLASSES).permute(0, 3, 1, 2)
    torch.testing.assert_close(z.grad, share[:, None] * (z.detach().softmax(1) - one_hot) / 3, atol=1e-7, rtol=1e-4)
    assert (z.grad[1] == 0).all()  # nothing of this image is kept
    assert confidence.grad is None


def test_nothing_kept_anywhere_is_a_zero_with_a_gradient():
    method = made(parts=["DR"])
    batch = make_batch(method)
    batch.unlabeled.valid[:] = False
    output = method(batch, make_step(0))
    output.losses["unsupervised"].backward()
    assert output.losses["unsupervised"] == 0
    assert all((p.grad == 0).all() for p in method.student.parameters() if p.grad is not None)


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
    for step, decay in ((0, 0.0), (1, 1 / 2), (2, 2 / 3), (99, 0.99), (500, 0.99)):
        with torch.no_grad():
            for parameter in method.teacher.parameters():
                parameter.fill_(1.0)  # and the student's 0: what is left is the decay
            for parameter in method.student.parameters():
                parameter.zero_()
        method.on_step_end(make_step(step))
        for parameter in method.teacher.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, decay))


def test_no_gradient_flows_into_the_teacher_or_the_bank():
    method = make_method({"name": "ael"})
    output = method(make_batch(method), make_step(0))
    sum(output.losses.values()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not any(buffer.requires_grad for buffer in method.buffers())
