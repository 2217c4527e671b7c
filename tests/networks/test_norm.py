"""Frozen batch norm and group norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evenseg.networks import SegmentationNetwork
from evenseg.networks.norm import GroupNormAct, group_count, replace_batch_norm


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_efficientnet"])  # timm fuses norm and activation
def test_frozen_statistics_stay_under_train_and_scale_is_learned(encoder):
    network = SegmentationNetwork("deeplabv3plus", encoder, num_classes=3, norm="frozen")
    parent = nn.ModuleList([network])
    before = statistics(network)
    for mode in (False, True):
        parent.train(mode)
        network.decoder.eval()  # leave dropout out
        with torch.no_grad():
            trained = network(torch.rand(2, 3, 32, 48))
        parent.train(mode)
        assert network.training is mode
    after = statistics(network)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trained.logits.isfinite().all()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(norm.weight.requires_grad and not norm.training for norm in norms)


def test_frozen_passes_are_independent_of_the_rest_of_the_batch():
    torch.manual_seed(0)
    for norm in ("frozen", "group"):
        network = SegmentationNetwork("fpn", "tu-test_efficientnet", num_classes=3, norm=norm)
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        image = torch.rand(3, 3, 64, 64)
        torch.testing.assert_close(network(image).logits[:1], network(image[:1]).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_efficientnet"])
def test_group_norm_leaves_no_batch_norm(encoder):
    network = SegmentationNetwork("upernet", encoder, num_classes=3, norm="group", auxiliary=True)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    assert not any("running_mean" in name for name in network.state_dict())
    network(torch.rand(1, 3, 32, 32)).logits.mean().backward()
    assert all(p.grad is not None for p in network.encoder_parameters())


def test_group_norm_keeps_scale_shift_and_a_fused_activation():
    from timm.layers import BatchNormAct2d

    fused = BatchNormAct2d(8)
    nn.init.normal_(fused.weight)
    nn.init.normal_(fused.bias)
    feature = torch.randn(2, 8, 5, 5)
    group = replace_batch_norm(nn.Sequential(fused))[0]
    assert isinstance(group, GroupNormAct)
    expected = nn.functional.group_norm(feature, 4, fused.weight, fused.bias, fused.eps).relu()
    torch.testing.assert_close(group(feature), expected)


def test_group_count_divides_and_leaves_two_channels():
    for channels in range(1, 700):
        groups = group_count(channels)
        assert channels % groups == 0
        assert groups == 1 or channels // groups >= 2
    assert [group_count(channels) for channels in (1, 3, 24, 32, 48, 64, 304, 2048)] == [1, 1, 8, 16, 16, 32, 16, 32]


def test_frozen_statistics_survive_the_conversion_to_sync_batch_norm():
    network = SegmentationNetwork("fpn", "tu-test_resnet", num_classes=3, norm="frozen")
    before = network.eval()(torch.ones(1, 3, 32, 32)).logits
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network).train()
    norms = [m for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    torch.testing.assert_close(converted.eval()(torch.ones(1, 3, 32, 32)).logits, before)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_efficientnet"])
def test_separate_statistics_leave_strong_views_out(encoder):
    torch.manual_seed(0)
    network = SegmentationNetwork("unet", encoder, num_classes=3, strong_statistics="separate")
    first = statistics(network)
    image = torch.rand(2, 3, 64, 64)
    strong = network(image, strong=True).logits
    assert all(torch.equal(first[name], buffer) for name, buffer in network.named_buffers())
    weak = network(image).logits
    assert torch.equal(strong, weak)  # normalised by the batch all the same
    changed = [name for name, buffer in network.named_buffers() if not torch.equal(first[name], buffer)]
    assert any("running_mean" in name for name in changed)
    network.eval()
    assert torch.equal(network(image, strong=True).logits, network(image).logits)
    network.train()
    network.strong_statistics = "shared"
    before = statistics(network)
    network(image, strong=True)
    assert any(not torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
