"""C3-SemiSeg's step written out, after Section 3 of the paper, and its options."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.config import Config, override_config
from evenseg.errors import InputError
from evenseg.training.run import _check_passes

from ..contract.conftest import C3, CLASSES, make_batch, make_method, make_step


def c3(**options):
    method = make_method({"name": "c3", **C3, **options}, norm="frozen")
    with torch.no_grad():  # student and teacher differ
        for parameter in method.student.parameters():
            parameter += 0.01
    return method


def pairs_of(method, batch, step):
    """Partners and boxes of the step, as index lists and masks."""
    mixture = method.cross_set.draw(step, batch.labeled.image, batch.unlabeled.weak)
    return mixture.partner.tolist(), mixture.mask[:, 0]


def exchanged(images, partner, boxes):
    """Eq. 4 for both images of a pair, pixel region by pixel region."""
    return [
        torch.stack([torch.where(boxes[i], images[partner[i]][c], images[i][c]) for c in range(len(images[i]))])
        for i in range(len(images))
    ]


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_step_written_out(per_image, reduction):
    method = c3(contrast_source="none", per_image=per_image, class_reduction=reduction, unsupervised_weight=3.0)
    student, batch, step = copy.deepcopy(method.student), make_batch(method), make_step(2)
    partner, boxes = pairs_of(method, batch, step)
    assert any(partner[i] >= 4 for i in range(4))  # one pair at least crosses the sets
    with torch.no_grad():
        prob = method.teacher.network(batch.unlabeled.weak).logits.softmax(1)
    confidence, pseudo = prob.max(1)
    output = method(batch, step)
    limit = method.components[0].threshold
    for c in range(CLASSES):  # the first batch sets the thresholds, Eq. 6
        values = sorted(confidence[(pseudo == c) & batch.unlabeled.valid].tolist(), reverse=True)
        if values:
            expected = values[min(8 * len(values) // 10, len(values) - 1)]
            assert expected - 2.5e-4 <= limit[c] <= expected
    keep = (confidence >= limit[pseudo]) & batch.unlabeled.valid
    images = [*batch.labeled.image, *batch.unlabeled.strong[0]]
    predicted = student(torch.stack(exchanged(images, partner, boxes))).logits
    log_prob = torch.stack(exchanged(list(predicted.log_softmax(1)), partner, boxes))
    supervised, consistency = [], []
    for i in range(4):
        valid = batch.labeled.label[i] != 255
        label = batch.labeled.label[i][valid]
        supervised.append(-log_prob[i][:, valid].gather(0, label[None])[0])  # Eq. 1
        consistency.append(-(prob[i] * log_prob[4 + i]).sum(0)[keep[i]])  # Eq. 2
    mean = (lambda x: torch.stack([v.mean() for v in x]).mean()) if per_image else (lambda x: torch.cat(x).mean())
    scale = 3.0 if reduction == "sum" else 3.0 / CLASSES
    expected = {"supervised": mean(supervised), "unsupervised": scale * mean(consistency)}
    assert output.log["weight"].item() == pytest.approx(keep.float().mean().item(), abs=2e-4)
    assert output.losses.keys() == expected.keys()
    for name, value in expected.items():
        assert output.losses[name].item() == pytest.approx(value.item(), rel=1e-5)
    sum(output.losses.values()).backward()
    sum(expected.values()).backward()
    for (name, got), other in zip(method.student.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(got.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_the_student_that_agrees_pays_the_teachers_entropy_and_learns_nothing():
    method = make_method(
        {
            "name": "c3",
            **C3,
            "contrast_source": "none",
            "mixing": "none",
            "class_reduction": "sum",
            "region_ratio": 1.0,
        },
        norm="frozen",
    )
    batch = make_batch(method)
    batch = batch._replace(unlabeled=batch.unlabeled._replace(strong=(batch.unlabeled.weak,)))
    loss = method(batch, make_step(0)).losses["unsupervised"]
    with torch.no_grad():
        prob = method.teacher.network(batch.unlabeled.weak).logits.softmax(1)
    entropy = -(prob * prob.log()).sum(1)[batch.unlabeled.valid].mean()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-5)
    gradients = torch.autograd.grad(loss, list(method.student.parameters()), allow_unused=True)
    assert max(float(g.abs().max()) for g in gradients if g is not None) < 1e-6


def test_mean_over_classes_times_their_number_is_their_sum():
    losses = []
    for reduction in ("mean", "sum"):
        method = c3(class_reduction=reduction)
        losses.append(method(make_batch(method), make_step(2)).losses["unsupervised"].item())
    assert losses[0] * CLASSES == pytest.approx(losses[1], rel=1e-5)


def test_without_mixing_it_is_a_plain_pass_of_both_sets():
    method = c3(mixing="none", contrast_source="none")
    student, batch = copy.deepcopy(method.student), make_batch(method)
    output = method(batch, make_step(0))
    expected = F.cross_entropy(student(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    assert output.losses["supervised"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert "contrast" not in output.losses
    assert not method.student.heads


def test_the_teacher_is_a_copy_until_unlabeled_images_come():
    method = c3(supervised_steps=3)
    student, teacher = list(method.student.parameters()), list(method.teacher.network.parameters())
    decays = []
    for index in range(6):
        before = [value.clone() for value in teacher]
        with torch.no_grad():
            for parameter in student:
                parameter += 1.0
        method.on_step_end(make_step(index))
        moved, distance = teacher[0] - before[0], student[0] - before[0]
        decays.append(1 - (moved / distance).mean().item())
    # the update after step 2 is the copy that step 3, the first with unlabeled images, finds
    assert decays == pytest.approx([0, 0, 0, 1 / 2, 2 / 3, 3 / 4], abs=1e-3)


@pytest.mark.parametrize(
    ("views", "strong"), [(("weak", "strong"), 1), (("weak", "weak"), 0), (("strong", "strong"), 2)]
)
def test_rows_of_table_5_choose_what_each_network_sees(views, strong):
    method = c3(teacher_view=views[0], student_view=views[1], mixing="none")
    assert method.views.strong == strong
    batch, seen = make_batch(method), {}
    method.student.register_forward_pre_hook(lambda module, inputs: seen.update(student=inputs[0]))
    method.teacher.network.register_forward_pre_hook(lambda module, inputs: seen.update(teacher=inputs[0]))
    method(batch, make_step(1))
    student = batch.unlabeled.strong[0] if views[1] == "strong" else batch.unlabeled.weak
    teacher = batch.unlabeled.strong[-1] if views[0] == "strong" else batch.unlabeled.weak
    assert torch.equal(seen["student"][4:], student)
    assert torch.equal(seen["teacher"], teacher)


def test_pictures_show_the_mixture_with_what_was_taught_of_each_pixel():
    method = c3()
    batch, step = make_batch(method), make_step(2)._replace(picture=True)
    partner, boxes = pairs_of(method, batch, step)
    output = method(batch, step)
    images = exchanged([*batch.labeled.image, *batch.unlabeled.strong[0]], partner, boxes)
    assert torch.equal(output.seen.image, torch.stack(images[4:]))
    crossed = [i for i in range(4, 8) if partner[i] < 4]
    assert crossed
    for i in crossed:
        assert torch.equal(output.seen.label[i - 4][boxes[i]], batch.labeled.label[partner[i]][boxes[i]])


def test_all_teacher_keys_need_a_pass_of_the_labeled_images():
    plain, other = c3(), c3(teacher_all=True)
    batch = make_batch(plain)
    expected, got = (method(batch, make_step(2)).losses for method in (plain, other))
    assert got["contrast"] != expected["contrast"]
    assert {k: v.item() for k, v in got.items() if k != "contrast"} == {
        k: v.item() for k, v in expected.items() if k != "contrast"
    }


def test_official_keeps_class_0_out_and_contrasts_from_the_first_step():
    official = c3(preset="official", contrast_ramp_steps=0)
    batch = make_batch(official, unlabeled=False)
    assert official(batch, make_step(0)).losses["contrast"] > 0
    assert c3()(batch, make_step(0)).losses["contrast"] == 0
    only = batch._replace(labeled=batch.labeled._replace(label=torch.zeros_like(batch.labeled.label)))
    assert official(only, make_step(0)).losses["contrast"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train.labeled_batch=4", "train.unlabeled_batch=2"], "given 4 and 2 at a time"),
        (["train.labeled_batch=3", "train.unlabeled_batch=3"], "given 3 and 3 at a time"),
        (["train.labeled_batch=4", "train.unlabeled_batch=4", "train.micro_batches=4"], "given 1 and 1 at a time"),
        (["train.labeled_batch=4", "train.unlabeled_batch=4", "train.micro_batches=2"], None),
        (["train.labeled_batch=3", "train.unlabeled_batch=1", "method.mixing=none"], None),
    ],
)
def test_batches_that_cannot_be_mixed_are_refused(options, message):
    config = override_config(Config(), ["method=c3", "train.steps=3000", *options])
    method = make_method({"name": "c3", **config.method_arguments}, norm="group")
    if message is None:
        _check_passes(method, config, 1)
        return
    with pytest.raises(InputError, match=message):
        _check_passes(method, config, 1)
