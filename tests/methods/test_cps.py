"""CPS against a transcription of its official training loops."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg import registry
from evenseg.components.base import Component
from evenseg.components.mixers import CutMix
from evenseg.methods.cps import CPS
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.heads import ProjectionHead
from evenseg.types import PseudoTarget

from ..contract.conftest import make_batch, make_method, make_step

WEIGHT = 1.5


def official_step(model_l, model_r, batch):
    """CPS without CutMix: train.py of exp.voc/voc8.res50v3+.CPS, with its names; padding (valid) is left out here."""
    imgs, gts, unsup_imgs = batch.labeled.image, batch.labeled.label, batch.unlabeled.weak
    ignored = torch.cat([torch.zeros_like(batch.unlabeled.valid), ~batch.unlabeled.valid])
    pred_sup_l, pred_unsup_l = model_l(imgs).logits, model_l(unsup_imgs).logits
    pred_sup_r, pred_unsup_r = model_r(imgs).logits, model_r(unsup_imgs).logits
    pred_l = torch.cat([pred_sup_l, pred_unsup_l], dim=0)
    pred_r = torch.cat([pred_sup_r, pred_unsup_r], dim=0)
    max_l, max_r = pred_l.argmax(1).masked_fill(ignored, 255), pred_r.argmax(1).masked_fill(ignored, 255)
    cps_loss = F.cross_entropy(pred_l, max_r, ignore_index=255) + F.cross_entropy(pred_r, max_l, ignore_index=255)
    loss_sup = F.cross_entropy(pred_sup_l, gts, ignore_index=255)
    loss_sup_r = F.cross_entropy(pred_sup_r, gts, ignore_index=255)
    return loss_sup, loss_sup_r, WEIGHT * cps_loss


def official_cutmix_step(model_l, model_r, batch, mask):
    """The same of voc8.res50v3+.CPS+CutMix; the second unlabeled batch is each image's neighbour."""
    partner = torch.tensor([1, 0, 3, 2])
    unsup_imgs_0, unsup_imgs_1 = batch.unlabeled.weak, batch.unlabeled.weak[partner]
    valid = torch.where(mask[:, 0], batch.unlabeled.valid[partner], batch.unlabeled.valid)
    mask = mask.float()
    unsup_imgs_mixed = unsup_imgs_0 * (1 - mask) + unsup_imgs_1 * mask
    loss_sup = F.cross_entropy(model_l(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    loss_sup_r = F.cross_entropy(model_r(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
    with torch.no_grad():
        logits_1, logits_2 = model_l(unsup_imgs_0).logits, model_r(unsup_imgs_0).logits
    ps_label_1, ps_label_2 = (
        (logits * (1 - mask) + logits[partner] * mask).argmax(1).masked_fill(~valid, 255)
        for logits in (logits_1, logits_2)
    )
    cps_loss = F.cross_entropy(model_l(unsup_imgs_mixed).logits, ps_label_2, ignore_index=255)
    cps_loss = cps_loss + F.cross_entropy(model_r(unsup_imgs_mixed).logits, ps_label_1, ignore_index=255)
    return loss_sup, loss_sup_r, 1.0 * cps_loss


def assert_same(method, batch, step, expected, models):
    sum(expected).backward()
    output = method(batch, step)
    assert output.losses.keys() == {"supervised", "supervised_second", "unsupervised"}
    sum(output.losses.values()).backward()
    got = [output.losses[name].item() for name in ("supervised", "supervised_second", "unsupervised")]
    assert got == pytest.approx([value.item() for value in expected], rel=1e-5)
    for network, model in zip((method.student, method.second), models, strict=True):
        for (name, parameter), other in zip(network.named_parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
        for (name, buffer), other in zip(network.named_buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(buffer, other, msg=name)


def test_a_step_is_the_official_one():
    method = make_method({"name": "cps", "preset": "official"})
    models = copy.deepcopy(method.student), copy.deepcopy(method.second)
    batch = make_batch(method)
    assert_same(method, batch, make_step(2), official_step(*models, batch), models)


def test_a_step_with_cutmix_is_the_official_one():
    method = make_method({"name": "cps", "preset": "cutmix"})
    models = copy.deepcopy(method.student), copy.deepcopy(method.second)
    batch, step = make_batch(method), make_step(2)
    slot = torch.arange(4.0).view(-1, 1, 1, 1).expand(-1, 3, 48, 48)
    nothing = PseudoTarget(torch.ones(4, 1, 48, 48), torch.ones(4, 48, 48))
    mask = (method.mixer(slot, nothing, step)[0] != slot)[:, :1]
    assert mask.any((1, 2, 3)).all()
    assert_same(method, batch, step, official_cutmix_step(*models, batch, mask), models)


@pytest.mark.parametrize("spec", [{"name": "cps"}, {"name": "cps", "preset": "cutmix"}], ids=["plain", "cutmix"])
def test_exchanging_the_networks_exchanges_the_losses(spec):
    method = make_method(spec)
    other = copy.deepcopy(method)
    other.student, other.second = other.second, other.student
    batch = make_batch(method)
    one, two = (each(batch, make_step(2)).losses for each in (method, other))
    assert one["supervised"] != one["supervised_second"]
    assert two["supervised_second"].item() == pytest.approx(one["supervised"].item(), rel=1e-6)
    assert two["supervised"].item() == pytest.approx(one["supervised_second"].item(), rel=1e-6)
    assert two["unsupervised"].item() == pytest.approx(one["unsupervised"].item(), rel=1e-6)


def test_equal_networks_teach_each_other_what_they_know():
    """Then each is its own teacher: twice the entropy-like loss against its own label."""
    method = make_method({"name": "cps", "labeled_consistency": False}, norm="frozen")
    method.second.load_state_dict(method.student.state_dict())
    batch = make_batch(method)
    logits = method.student(batch.unlabeled.weak).logits
    own = F.cross_entropy(logits, logits.argmax(1), reduction="none")[batch.unlabeled.valid].mean()
    assert method(batch, make_step(0)).losses["unsupervised"].item() == pytest.approx(WEIGHT * 2 * own.item(), rel=1e-5)


def test_labels_carry_no_gradient():
    method = make_method({"name": "cps"})
    method(make_batch(method), make_step(0)).losses["supervised"].backward()
    assert all(parameter.grad is None for parameter in method.second.parameters())


# the second network


def test_the_first_network_starts_as_in_any_other_method():
    alone, method = make_method({"name": "supervised"}), make_method({"name": "cps"})
    for name, value in alone.student.state_dict().items():
        assert torch.equal(method.student.state_dict()[name], value), name


def test_the_second_network_is_another_one_and_a_function_of_the_seed():
    method, same, other = (make_method({"name": "cps"}, seed=seed) for seed in (0, 0, 1))
    assert method.second.state_dict().keys() == method.student.state_dict().keys()
    drawn = [name for name, value in method.student.named_parameters() if value.ndim > 1 and value.std() > 0]
    assert len(drawn) > 10
    for name in drawn:
        value = method.second.get_parameter(name)
        assert torch.equal(same.second.get_parameter(name), value)
        assert not torch.equal(other.second.get_parameter(name), value)
        assert not torch.equal(method.student.get_parameter(name), value)
        spread = method.student.get_parameter(name).std()  # drawn from the same distribution
        assert value.std().item() == pytest.approx(spread.item(), rel=0.5, abs=1e-3), name


def test_making_the_second_network_leaves_the_generator_alone():
    make_method({"name": "supervised"})
    after_one = torch.rand(3)
    make_method({"name": "cps"})
    assert torch.equal(torch.rand(3), after_one)


def test_pretrained_encoders_are_equal_and_heads_are_not(tmp_path):
    def network(weights):
        return SegmentationNetwork("linknet", "tu-mobilenetv3_small_050", num_classes=5, weights=weights)

    torch.manual_seed(3)
    torch.save(network(None).state_dict(), tmp_path / "whole.pth")
    method = CPS(network(str(tmp_path / "whole.pth")))
    for name, value in method.student.encoder.state_dict().items():
        assert torch.equal(method.second.encoder.state_dict()[name], value), name
    assert not torch.equal(method.second.segmentation_head.weight, method.student.segmentation_head.weight)
    assert not any(a is b for a, b in zip(method.student.parameters(), method.second.parameters(), strict=True))
    for one, other in zip(method.student.parameters(), method.second.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad


def test_both_encoders_have_the_encoders_learning_rate():
    method = make_method({"name": "cps", "components": ["pixel_contrast"]})
    encoder, head = method.param_groups()
    assert (encoder.name, head.name) == ("encoder", "head")
    expected = {id(p) for network in (method.student, method.second) for p in network.encoder_parameters()}
    assert {id(p) for p in encoder.parameters} == expected
    assert {id(p) for p in method.second.head_parameters()} < {id(p) for p in head.parameters}
    assert len({id(p) for group in (encoder, head) for p in group.parameters}) == sum(
        len(group.parameters) for group in (encoder, head)
    )


def test_the_headline_is_the_first_network():
    method = make_method({"name": "cps"}).eval()
    image = torch.rand(1, 3, 48, 48)
    assert list(method.predictors()) == ["second", "student"]
    assert torch.equal(method.predictor()(image), method.student(image).logits)
    assert torch.equal(method.predictors()["second"](image), method.second(image).logits)


def test_a_start_from_a_trained_network_leaves_two_networks():
    method, trained = make_method({"name": "cps"}), make_method({"name": "supervised"}, seed=5).student
    head = method.second.segmentation_head.weight.clone()
    method.start_from(trained.state_dict())
    assert torch.equal(method.student.segmentation_head.weight, trained.segmentation_head.weight)
    assert torch.equal(method.second.segmentation_head.weight, head)
    for name, value in trained.encoder.state_dict().items():
        assert torch.equal(method.second.encoder.state_dict()[name], value), name


# components


class Watch(Component):
    """Counts its verbs, attaches a head, and keeps only what both directions are to see."""

    def __init__(self):
        super().__init__()
        self.attached, self.calls = 0, []

    def attach(self, network):
        self.attached += 1
        network.add_head("watch", ProjectionHead(network.channels["high"], 4), on="high", upsample=False)

    def refine(self, target, weak, step):
        self.calls.append(("refine", self.training))
        return target._replace(weight=target.weight * 0.5)

    def losses(self, views, step):
        self.calls.append(("losses", self.training))
        return {"watch": views.labeled.heads["watch"].square().mean()}

    def update(self, views, step):
        self.calls.append(("update", self.training))
        self.seen = views


@pytest.mark.parametrize("mixer", [None, CutMix()], ids=["plain", "cutmix"])
def test_components_act_in_both_directions_and_count_in_one(mixer):
    torch.manual_seed(0)
    watch = Watch()
    network = SegmentationNetwork("linknet", "tu-mobilenetv3_small_050", num_classes=5)
    method = CPS(network, components=[watch], mixer=mixer, labeled_consistency=False)
    assert watch.attached == 1
    assert not torch.equal(method.second.heads["watch"][0].weight, method.student.heads["watch"][0].weight)
    plain = CPS(copy.deepcopy(network), mixer=mixer, labeled_consistency=False)
    plain.student, plain.second = copy.deepcopy(method.student), copy.deepcopy(method.second)
    batch = make_batch(method)
    output, without = method(batch, make_step(1)), plain(batch, make_step(1))
    assert output.losses["unsupervised"].item() == pytest.approx(0.5 * without.losses["unsupervised"].item(), rel=1e-5)
    assert {"watch", "watch_second"} <= output.losses.keys()
    assert output.losses["watch"] != output.losses["watch_second"]
    in_training = [name for name, training in watch.calls if training]
    assert in_training == ["refine", "losses", "update"]  # once each
    assert sorted(name for name, training in watch.calls if not training) == ["losses", "refine"]
    assert watch.training
    second = copy.deepcopy(plain.second).train()
    torch.testing.assert_close(watch.seen.weak.logits, second(batch.unlabeled.weak).logits, rtol=1e-3, atol=1e-3)
    sum(output.losses.values()).backward()
    assert all(p.grad is not None for p in method.second.heads["watch"].parameters())


def test_the_presets_are_the_published_weights():
    presets = {name: registry.check_spec("method", {"name": "cps", "preset": name})[1] for name in CPS.presets}
    assert {name: each["unsupervised_weight"] for name, each in presets.items()} == {
        "official": 1.5,
        "cutmix": 1.0,
        "cityscapes": 6.0,
        "cityscapes_cutmix": 5.0,
    }
    assert [make_method({"name": "cps", "preset": name}).labeled_consistency for name in CPS.presets] == [
        True,
        False,
        True,
        False,
    ]


def test_pseudo_labeled_images_teach_both():
    method = make_method({"name": "cps"}, norm="frozen")
    batch = make_batch(method, unlabeled=False)
    with_labels = batch._replace(pseudo_labeled=batch.labeled)
    expected = sum(
        F.cross_entropy(network(batch.labeled.image).logits, batch.labeled.label, ignore_index=255)
        for network in (method.student, method.second)
    )
    got = method(with_labels, make_step(0)).losses["pseudo_labeled"]
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
