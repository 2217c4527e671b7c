"""DeepLabV2 against a direct transcription."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from evenseg.networks import SegmentationNetwork
from evenseg.networks.deeplab_v2 import DeepLabV2Head


def test_head_sums_four_dilated_convolutions():
    torch.manual_seed(0)
    head = DeepLabV2Head(6, 3)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    feature = torch.randn(2, 6, 50, 52)
    state = head.state_dict()
    expected = torch.zeros(2, 3, 50, 52)
    for i, rate in enumerate((6, 12, 18, 24)):
        padded = F.pad(feature, (rate,) * 4)
        for dy in range(3):
            for dx in range(3):
                window = padded[:, :, dy * rate : dy * rate + 50, dx * rate : dx * rate + 52]
                expected += torch.einsum("bihw,oi->bohw", window, state[f"branches.{i}.weight"][:, :, dy, dx])
        expected += state[f"branches.{i}.bias"].view(1, 3, 1, 1)
    torch.testing.assert_close(head(feature), expected, atol=1e-4, rtol=1e-4)


def test_network_is_encoder_head_and_bilinear_upsampling():
    network = SegmentationNetwork("deeplabv2", "resnet18", num_classes=4).eval()
    image = torch.rand(1, 3, 64, 72)
    high = network.encoder(image * network.scale + network.shift)[-1]
    assert high.shape[-2:] == (8, 9)
    expected = F.interpolate(network.segmentation_head(high), size=(64, 72), mode="bilinear", align_corners=True)
    output = network(image)
    torch.testing.assert_close(output.logits, expected)
    assert output.features["decoder"] is output.features["high"] or torch.equal(
        output.features["decoder"], output.features["high"]
    )
    assert len(network.head_parameters()) == 8


@pytest.mark.parametrize("branches", [2, 4])
def test_the_number_of_branches(branches):
    network = SegmentationNetwork("deeplabv2", "resnet18", num_classes=3, aspp_branches=branches)
    rates = [branch.dilation for branch in network.segmentation_head.branches]
    assert rates == [(6, 6), (12, 12), (18, 18), (24, 24)][:branches]
