"""UniMatch V2 against its step written out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.channel_dropout import complementary_dropout
from evenseg.methods.unimatch_v2 import SECOND, UniMatchV2
from evenseg.networks import SegmentationNetwork
from evenseg.types import Batch, LabeledBatch, UnlabeledBatch

from ..contract.conftest import make_step
from .helpers import assert_same_step

PARTNER = torch.tensor([1, 0, 3, 2])


def boxes(method, image, step):
    """(B, H, W) bool: the pixels that the method's mixer replaces."""
    slot = torch.arange(len(image)).float().view(-1, 1, 1, 1).expand_as(image)
    target = method.pseudo_target(image, step)
    return (method.mixer(slot, target, step)[0] != slot)[:, 0]


def decode(model, image, factor):
    """The logits of a student whose four maps from stride 4 on are multiplied, channel by channel."""
    maps = model.encoder(model.shift + image * model.scale)
    assert [each.shape[-1] for each in maps] == [64, 32, 16, 8, 4, 2]
    maps = maps[:2] + [each * factor[:, : each.shape[1], None, None] for each in maps[2:]]
    logits = model.segmentation_head(model.decoder(maps))
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def step_written_out(model, teacher, batch, box, factors, threshold):
    """The losses, with the names of the official loop; partners are neighbours."""
    valid = batch.unlabeled.valid
    with torch.no_grad():
        conf_u_w, mask_u_w = teacher(batch.unlabeled.weak).logits.softmax(1).max(1)
    loss_x = F.cross_entropy(model(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    images, targets = [], []
    for view in (0, 1):
        cut = box[view]
        img_u_s = batch.unlabeled.strong[view]
        images.append(torch.where(cut[:, None], img_u_s[PARTNER], img_u_s))
        targets.append([torch.where(cut, each[PARTNER], each) for each in (mask_u_w, conf_u_w, valid)])
    preds = decode(model, torch.cat(images), torch.cat(factors)).chunk(2)
    losses = []
    for pred, (mask, conf, inside) in zip(preds, targets, strict=True):
        loss_u_s = F.cross_entropy(pred, mask, reduction="none") * ((conf >= threshold) & inside)
        losses.append(loss_u_s.sum() / inside.sum())
    return loss_x / 2, sum(losses) / 2 / 2


def make(**options) -> UniMatchV2:
    torch.manual_seed(0)
    network = SegmentationNetwork("fpn", "resnet18", num_classes=5)
    network.decoder.dropout.p = 0.0
    method = UniMatchV2(network, **options)
    for parameter in method.teacher.network.parameters():  # a teacher that is not the student
        parameter.mul_(1.1)
    with torch.no_grad():  # half of its labels are good enough
        confidence = method.teacher(batch_of_64().unlabeled.weak).logits.softmax(1).amax(1)
    method.threshold.threshold = confidence.median().item()
    return method


def batch_of_64() -> Batch:
    g = torch.Generator().manual_seed(9)
    image, weak = torch.rand(2, 4, 3, 64, 64, generator=g)
    label = torch.randint(0, 5, (4, 64, 64), generator=g)
    label[0, :8] = 255
    valid = torch.ones(4, 64, 64, dtype=torch.bool)
    valid[1, :, 40:] = False
    strong = ((weak + 0.1).clamp(max=1), (weak + 0.2).clamp(max=1))
    index = torch.arange(4)
    return Batch(LabeledBatch(image, label, index), UnlabeledBatch(weak, strong, valid, index))


@pytest.mark.parametrize("dropout", ["complementary", "none"])
def test_a_step_is_the_official_one(dropout):
    method, batch, step = make(dropout=dropout), batch_of_64(), make_step(4)
    weak = batch.unlabeled.weak
    box = boxes(method, weak, step), boxes(method, weak, step._replace(unlabeled_slot=SECOND))
    assert not torch.equal(*box)
    assert all(0 < each.any((1, 2)).sum() < 4 for each in box)  # some are mixed, some not
    factors = complementary_dropout(0, 4, 0, 4, 512)
    if dropout == "none":
        factors = [torch.ones_like(each) for each in factors]
    model = copy.deepcopy(method.student)
    supervised, unsupervised = step_written_out(
        model, copy.deepcopy(method.teacher), batch, box, factors, method.threshold.threshold
    )
    assert unsupervised > 0
    assert_same_step(method, batch, step, model, supervised=supervised, unsupervised=unsupervised, atol=1e-4)


def test_valid_pixels_divide_not_kept_ones():
    method, batch, step = make(), batch_of_64(), make_step(4)
    losses = [method(batch, step).losses["unsupervised"].item()]
    method.threshold.threshold = 0.0
    losses.append(method(batch, step).losses["unsupervised"].item())
    method.threshold.threshold = 1.0
    losses.append(method(batch, step).losses["unsupervised"].item())
    assert losses[2] == 0.0
    assert losses[0] == pytest.approx(losses[1] / 2, rel=0.2)  # divided by kept ones they would be about equal


def test_nothing_is_learned_outside_of_the_images():
    method, batch, step = make(), batch_of_64(), make_step(4)
    nowhere = batch.unlabeled._replace(valid=torch.zeros_like(batch.unlabeled.valid))
    output = method(batch._replace(unlabeled=nowhere), step)
    assert output.losses["unsupervised"] == 0


def test_the_teacher_averages_running_statistics_too_and_never_learns():
    method, batch = make(ema_decay=0.9), batch_of_64()
    before = copy.deepcopy(method.teacher)
    sum(method(batch, make_step(30)).losses.values()).backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert not any(module.training for module in method.teacher.modules())
    method.on_step_end(make_step(30))
    student = method.student.state_dict()
    for name, value in method.teacher.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.9 * before.network.state_dict()[name] + 0.1 * student[name])
    assert list(method.predictors()) == ["student", "teacher"]


def test_a_transformer_drops_channels_of_all_its_maps_but_no_tokens():
    torch.manual_seed(0)
    network = SegmentationNetwork("dpt", "tu-test_vit", num_classes=3).eval()
    assert network.map_channels == [64] * 4
    image, factor = torch.rand(2, 3, 48, 48), complementary_dropout(0, 0, 0, 2, 64)[0]
    with torch.no_grad():
        maps, tokens = network.encoder(network.shift + image * network.scale)
        decoded = network.decoder(([each * factor[:, :, None, None] for each in maps], tokens))
        output = network(image, channel_factor=factor)
        torch.testing.assert_close(output.features["decoder"], decoded)
        torch.testing.assert_close(network(image, channel_factor=torch.ones(2, 64)).logits, network(image).logits)
