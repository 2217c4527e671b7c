"""UniMatch against a transcription of its unimatch.py."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.components.base import Mixer
from evenseg.errors import InputError
from evenseg.methods.unimatch import _of_view

from ..contract.conftest import CLASSES, make_batch, make_method, make_step

THRESHOLD = 0.25
OFFICIAL = {"name": "unimatch", "preset": "official", "threshold": THRESHOLD}
PARTNER = torch.tensor([1, 0, 3, 2])


def boxes(method, image, step):
    """(B, H, W) bool: the pixels that the method's mixer replaces in this step."""
    slot = torch.arange(len(image)).float().view(-1, 1, 1, 1).expand_as(image)
    target = copy.deepcopy(method).pseudo_target(image, step)
    return (method.mixer(slot, target, step)[0] != slot)[:, 0]


def decode_both(model, image, dropped):
    """forward(x, need_fp=True) of deeplabv3plus.py: the decoder on the maps and on what dropout leaves of them."""
    height, width = image.shape[-2:]
    padded = model.padded_size(height, width)
    image = F.pad(image, (0, padded[1] - width, 0, padded[0] - height), mode="replicate")
    maps = model.encoder(torch.addcmul(model.shift, image, model.scale))
    widths = [maps[position].shape[1] for position in model._decoded]
    kept = dict(zip(model._decoded, dropped.split(widths, dim=1), strict=True))
    doubled = [
        torch.cat([each, each * kept[i][:, :, None, None]]) if i in kept else each for i, each in enumerate(maps)
    ]
    logits = model.segmentation_head(model.decoder(doubled))
    logits = F.interpolate(logits, size=padded, mode="bilinear", align_corners=True)
    return logits[..., :height, :width].chunk(2)


def official_step(model, batch, cutmix_box1, cutmix_box2, dropped):
    """The losses of unimatch.py, with its names; the second unlabeled batch is each image's neighbour."""
    img_x, mask_x = batch.labeled.image, batch.labeled.label
    img_u_w = batch.unlabeled.weak
    img_u_s1, img_u_s2 = (view.clone() for view in batch.unlabeled.strong)
    ignore_mask = torch.where(batch.unlabeled.valid, 0, 255)
    with torch.no_grad():
        model.eval()
        conf_mix, mask_mix = model(img_u_w[PARTNER]).logits.softmax(1).max(1)
    for img, box, view in ((img_u_s1, cutmix_box1, 0), (img_u_s2, cutmix_box2, 1)):
        wide = box.unsqueeze(1).expand_as(img)
        img[wide] = batch.unlabeled.strong[view][PARTNER][wide]
    model.train()
    preds, preds_fp = decode_both(model, torch.cat((img_x, img_u_w)), dropped)
    pred_x, pred_u_w = preds.split([len(img_x), len(img_u_w)])
    pred_u_w_fp = preds_fp[len(img_x) :]
    pred_u_s1, pred_u_s2 = model(torch.cat((img_u_s1, img_u_s2))).logits.chunk(2)
    conf_u_w, mask_u_w = pred_u_w.detach().softmax(1).max(1)

    def criterion(pred, box):
        mask, conf, ignore = mask_u_w.clone(), conf_u_w.clone(), ignore_mask.clone()
        mask[box], conf[box], ignore[box] = mask_mix[box], conf_mix[box], ignore_mask[PARTNER][box]
        loss = F.cross_entropy(pred, mask, reduction="none") * ((conf >= THRESHOLD) & (ignore != 255))
        return loss.sum() / (ignore != 255).sum()

    loss_x = F.cross_entropy(pred_x, mask_x, ignore_index=255)
    loss_u_s1, loss_u_s2 = criterion(pred_u_s1, cutmix_box1), criterion(pred_u_s2, cutmix_box2)
    loss_u_w_fp = criterion(pred_u_w_fp, torch.zeros_like(cutmix_box1))
    return loss_x / 2, (loss_u_s1 * 0.25 + loss_u_s2 * 0.25) / 2, loss_u_w_fp * 0.5 / 2


@pytest.fixture
def trained():
    """A method whose running statistics have moved away from the batches'."""
    method = make_method(OFFICIAL)
    for index in range(3):
        method(make_batch(method, seed=index), make_step(index))
    return method


def test_official_is_unimatch(trained):
    model, batch, step = copy.deepcopy(trained.student), make_batch(trained, seed=9), make_step(9)
    first, second = (boxes(trained, batch.unlabeled.weak, _of_view(step, number)) for number in (0, 1))
    assert not torch.equal(first, second)
    assert all(0 < each.any((1, 2)).sum() < len(each) for each in (first, second))
    dropped = torch.cat(
        [
            trained._of_labeled(batch.labeled.image, step),
            trained._of_weak(batch.unlabeled.weak, step),
        ]
    )
    expected = official_step(model, batch, first, second, dropped)
    sum(expected).backward()
    output = trained(batch, step)
    assert output.losses.keys() == {"supervised", "unsupervised", "feature_perturbation"}
    sum(output.losses.values()).backward()
    for got, value in zip(output.losses.values(), expected, strict=True):
        assert got.item() == pytest.approx(value.item(), rel=1e-5)
        assert value > 0
    for (name, got), value in zip(trained.student.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(got.grad, value.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, got), value in zip(trained.student.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(got, value, msg=name)


def test_half_of_the_channels_are_lost_and_the_others_are_doubled():
    method = make_method({"name": "unimatch"})
    image, step = torch.rand(4, 3, 48, 48), make_step(3)
    factors = method._factors(image, step, 0, "disturbed")
    assert factors.shape == (4, method.student.decoded_channels)
    assert set(factors.unique().tolist()) == {0.0, 2.0}
    assert (factors == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(factors[0], factors[1])
    # they belong to slots: another rank draws those of its own images
    assert torch.equal(method._factors(image[2:], step, 2, "disturbed"), factors[2:])
    method.perturbation = 0.2
    factors = method._factors(image, step, 0, "disturbed")
    assert factors.unique().tolist() == [0.0, pytest.approx(1.25)]
    assert (factors == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)


def test_the_mean_counts_valid_pixels_and_not_those_that_are_kept():
    """Two thresholds differ in the pixels that are summed alone."""
    batch, step = make_batch(make_method({"name": "unimatch", "strong_views": 1})), make_step(0)
    sums = []
    for threshold in (0.0, THRESHOLD):
        method = make_method({"name": "unimatch", "threshold": threshold, "strong_views": 1}, norm="frozen")
        method.mixer = Mixer()  # which mixes nothing
        loss = method(batch, step).losses["unsupervised"]
        logits = method.student(batch.unlabeled.strong[0]).logits
        confidence, label = method.student(batch.unlabeled.weak).logits.softmax(1).max(1)
        pixel = F.cross_entropy(logits, label, reduction="none")
        kept = (confidence >= threshold) & batch.unlabeled.valid
        assert loss.item() == pytest.approx(
            0.5 * 0.5 * (pixel * kept).sum().item() / batch.unlabeled.valid.sum().item(), rel=1e-5
        )
        sums.append(kept.sum().item())
    assert 0 < sums[1] < sums[0]


@pytest.mark.parametrize(
    ("options", "terms", "views"),
    [
        ({"feature_weight": 0, "strong_views": 1, "strong_weight": 1.0}, {"unsupervised"}, 1),  # FixMatch
        ({"strong_views": 1}, {"unsupervised", "feature_perturbation"}, 1),  # UniPerb
        ({"feature_weight": 0, "strong_weight": 1.0}, {"unsupervised"}, 2),  # DusPerb
        ({}, {"unsupervised", "feature_perturbation"}, 2),
    ],
)
def test_the_rows_of_the_ablation(options, terms, views):
    method = make_method({"name": "unimatch", "threshold": 0.0, **options})
    assert method.views.strong == views
    assert method(make_batch(method), make_step(0)).losses.keys() == {"supervised", *terms}


def test_without_its_two_parts_it_is_fixmatch():
    options = {"threshold": THRESHOLD, "mixer": {"name": "cutmix", "probability": 0.5}}
    one = make_method({"name": "unimatch", "feature_weight": 0.0, "strong_views": 1, "strong_weight": 1.0, **options})
    other = make_method({"name": "fixmatch", **options})
    batch = make_batch(one)
    expected, got = other(batch, make_step(1)).losses, one(batch, make_step(1)).losses
    assert {name: value.item() for name, value in got.items()} == {n: v.item() for n, v in expected.items()}


def test_labels_carry_no_gradient_and_disturbed_features_do():
    method = make_method({"name": "unimatch", "threshold": 0.0}, norm="frozen")
    output = method(make_batch(method), make_step(0))
    encoder = list(method.student.encoder.parameters())
    gradients = torch.autograd.grad(output.losses["feature_perturbation"], encoder, allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_nothing_sure_teaches_nothing():
    method = make_method({"name": "unimatch", "threshold": 1.0})
    losses = method(make_batch(method), make_step(0)).losses
    assert losses["unsupervised"].item() == losses["feature_perturbation"].item() == 0
    assert losses["unsupervised"].requires_grad


def test_losing_all_channels_is_refused():
    with pytest.raises(InputError, match="perturbation"):
        make_method({"name": "unimatch", "perturbation": 1.0})


def test_components_do_not_see_the_disturbed_logits():
    method = make_method({"name": "unimatch"})
    seen = []
    finish = method.finish
    method.finish = lambda losses, log, views, step, **k: seen.append(views) or finish(losses, log, views, step, **k)
    method(make_batch(method), make_step(0))
    assert seen[0].weak.heads == {}
    assert seen[0].weak.logits.shape[1] == CLASSES
