"""Prototype heads on networks of several kinds, and the teacher that learns its decoder."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.decoupled import DecoupledTeacher, share_prototypes
from evenseg.networks.prototypes import PrototypeBank, PrototypeOptions

IMAGE = torch.rand(2, 3, 57, 70, generator=torch.Generator().manual_seed(0))


def with_prototypes(architecture="fpn", encoder="resnet18", *, norm="batch", frequency=None, **options):
    torch.manual_seed(0)
    network = SegmentationNetwork(architecture, encoder, num_classes=4, norm=norm)
    network.use_prototypes(PrototypeOptions(dimension=8, **options), frequency).bank.begin("simplex")
    return network


@pytest.mark.parametrize("architecture", ["deeplabv2", "deeplabv3plus", "unet", "pspnet"])
@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_logits_are_the_cosines_of_the_embedding(architecture, projection):
    network = with_prototypes(architecture, projection=projection).eval()
    output = network(IMAGE)
    embedding, coarse = output.features["embedding"], output.coarse["class"]
    assert embedding.shape[1] == 8
    rows, columns = embedding.shape[2:]
    prototypes = network.segmentation_head.bank.prototypes
    cosine = F.cosine_similarity(embedding[:, None], prototypes[None, :, :, None, None], dim=2)
    torch.testing.assert_close(cosine / 0.1, coarse[..., :rows, :columns], rtol=1e-3, atol=1e-3)
    assert output.logits.shape == (2, 4, 57, 70)


@pytest.mark.parametrize("share", ["none", "high"])
def test_branches_classify_by_themselves(share):
    network = with_prototypes()
    network.add_branch("subclass", 9, share=share)
    assert network(IMAGE).coarse["subclass"].shape[:2] == (2, 9)


def test_group_norm_in_the_projection():
    network = with_prototypes(norm="group", projection="mlp")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_a_class_without_a_label_has_no_probability_in_any_precision():
    network = with_prototypes(frequency=torch.tensor([5, 0, 3, 1])).eval()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
            logits = network(IMAGE).logits
        assert logits.dtype == torch.float32
        assert (logits.softmax(1)[:, 1] == 0).all()
        assert logits.isfinite().all()


def test_random_directions_have_unit_length():
    bank = PrototypeBank(4, 8)
    bank.begin("random")
    torch.testing.assert_close(bank.prototypes.norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match="dimensions"):
        PrototypeBank(9, 8).begin("simplex")


def test_only_the_decoder_learns_and_only_from_labeled_passes():
    network = with_prototypes(norm="batch")
    teacher = DecoupledTeacher(network)
    share_prototypes(teacher.network, network)
    trained = {name for name, p in teacher.network.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in network.named_parameters() if p.requires_grad and not n.startswith("encoder.")}
    assert not teacher(IMAGE).logits.requires_grad
    teacher.labeled(IMAGE).logits.square().mean().backward()
    assert {name for name, p in teacher.network.named_parameters() if p.grad is not None} == trained
    teacher.train()
    assert not any(module.training for module in teacher.modules())


def test_frozen_norm_stays_frozen_in_labeled_passes():
    teacher = DecoupledTeacher(with_prototypes(norm="frozen"))
    before = copy.deepcopy(teacher.state_dict())
    teacher.labeled(IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("decouple", [True, False])
def test_what_follows_the_student(decouple):
    network = with_prototypes()
    network.add_head("extra", torch.nn.Conv2d(network.channels["high"], 2, 1), on="high")
    teacher = DecoupledTeacher(network, decay=0.5, warmup=False, decouple=decouple)
    before = copy.deepcopy(teacher.network.state_dict())
    with torch.no_grad():
        for value in network.state_dict().values():
            value += 1
    teacher.update(network, 0)
    for name, value in teacher.network.state_dict().items():
        still = name.startswith("segmentation_head.bank.") or (
            decouple and name.startswith(("decoder.", "segmentation_head."))
        )
        added = 0 if still else 0.5 if value.is_floating_point() else 1
        torch.testing.assert_close(value, before[name] + added, msg=name)
