"""FixMatch against a transcription of UniMatch's fixmatch.py."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.networks.mode import eval_mode

from ..contract.conftest import make_batch, make_method, make_step

THRESHOLD = 0.25
OFFICIAL = {"name": "fixmatch", "preset": "official", "threshold": THRESHOLD}


def boxes(method, image, step):
    """(B, H, W) bool: the pixels that the method's mixer replaces in this step."""
    slot = torch.arange(len(image)).float().view(-1, 1, 1, 1).expand_as(image)
    target = method.pseudo_target(image, step)
    return (method.mixer(slot, target, step)[0] != slot)[:, 0]


def unimatch_step(model, batch, box):
    """The loss of fixmatch.py, with its names; the second unlabeled batch is each image's neighbour."""
    partner = torch.tensor([1, 0, 3, 2])
    img_x, mask_x = batch.labeled.image, batch.labeled.label
    img_u_w, img_u_s = batch.unlabeled.weak, batch.unlabeled.strong[0].clone()
    ignore = torch.where(batch.unlabeled.valid, 0, 255)
    with torch.no_grad():
        model.eval()
        pred_u_w_mix = model(img_u_w[partner]).logits
        conf_mix, mask_mix = pred_u_w_mix.softmax(1).max(1)
    wide = box.unsqueeze(1).expand_as(img_u_s)
    img_u_s[wide] = batch.unlabeled.strong[0][partner][wide]
    model.train()
    pred_x, pred_u_w = model(torch.cat((img_x, img_u_w))).logits.split([len(img_x), len(img_u_w)])
    pred_u_s = model(img_u_s).logits
    conf, mask = pred_u_w.detach().softmax(1).max(1)
    mask, conf, ignore_mixed = mask.clone(), conf.clone(), ignore.clone()
    mask[box], conf[box], ignore_mixed[box] = mask_mix[box], conf_mix[box], ignore[partner][box]
    loss_x = F.cross_entropy(pred_x, mask_x, ignore_index=255)
    loss_u_s = F.cross_entropy(pred_u_s, mask, reduction="none")
    loss_u_s = loss_u_s * ((conf >= THRESHOLD) & (ignore_mixed != 255))
    loss_u_s = loss_u_s.sum() / (ignore_mixed != 255).sum()
    return loss_x / 2, loss_u_s / 2


@pytest.fixture
def trained():
    """A method whose running statistics have moved away from the batches', with a step in which boxes fall."""
    method = make_method(OFFICIAL)
    for index in range(3):
        method(make_batch(method, seed=index), make_step(index))
    return method


def test_official_is_unimatchs_fixmatch(trained):
    model = copy.deepcopy(trained.student)
    batch, step = make_batch(trained, seed=9), make_step(4)
    box = boxes(copy.deepcopy(trained), batch.unlabeled.weak, step)
    assert 0 < box.any((1, 2)).sum() < len(box)  # some are mixed, some not
    supervised, unsupervised = unimatch_step(model, batch, box)
    (supervised + unsupervised).backward()
    output = trained(batch, step)
    sum(output.losses.values()).backward()
    assert output.losses["supervised"].item() == pytest.approx(supervised.item(), rel=1e-5)
    assert output.losses["unsupervised"].item() == pytest.approx(unsupervised.item(), rel=1e-5)
    assert unsupervised > 0
    for (name, got), expected in zip(trained.student.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, got), expected in zip(trained.student.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(got, expected, msg=name)


@pytest.mark.parametrize(("option", "default"), [("joint_pass", False), ("partner_mode", "train")])
def test_each_option_of_official_changes_the_loss(trained, option, default):
    other = copy.deepcopy(trained)
    setattr(other, option, default)
    batch, step = make_batch(trained, seed=9), make_step(4)
    expected, got = trained(batch, step).losses, other(batch, step).losses
    assert got["unsupervised"] != expected["unsupervised"]
    assert (got["supervised"] != expected["supervised"]) == (option == "joint_pass")


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_an_eval_pass_leaves_every_module_in_its_mode(norm):
    student = make_method(OFFICIAL, norm=norm).student
    student.segmentation_head.eval()
    before = [module.training for module in student.modules()]
    assert len(set(before)) == 2
    with eval_mode(student):
        assert not any(module.training for module in student.modules())
    assert [module.training for module in student.modules()] == before


def test_an_eval_pass_ends_with_an_error_too():
    student = make_method(OFFICIAL).student
    with pytest.raises(RuntimeError), eval_mode(student):
        raise RuntimeError
    assert student.training
