"""Depthwise convolutions on planes: the same figures, gradients and names as torch's own."""

import copy

import pytest
import torch
from torch import nn

from evenseg.networks import SegmentationNetwork
from evenseg.networks.depthwise import PlanarDepthwise, use_planes


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("kernel", "dilation", "stride"), [(3, 12, 1), (3, 2, 2), (5, 3, 1)])
def test_computes_what_torch_does(kernel, dilation, stride, memory_format):
    torch.manual_seed(0)
    options = {"groups": 8, "dilation": dilation, "padding": dilation, "stride": stride}
    plain = nn.Conv2d(8, 8, kernel, **options).double()
    planar = nn.Sequential(copy.deepcopy(plain)).to(memory_format=memory_format)
    use_planes(planar)
    assert type(planar[0]) is PlanarDepthwise
    image = torch.randn(2, 8, 21, 26, dtype=torch.float64).to(memory_format=memory_format)
    inputs = [image.clone().requires_grad_() for _ in range(2)]
    expected, found = plain(inputs[0]), planar(inputs[1])
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for ours, theirs in zip(planar.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert planar[0].state_dict().keys() == plain.state_dict().keys()


def test_only_dilated_depthwise_convolutions_are_changed():
    layers = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 8, 3, groups=2, dilation=2)
    )
    use_planes(layers)
    assert [type(layer) for layer in layers] == [nn.Conv2d] * 3


def test_those_of_deeplabv3plus_are():
    network = SegmentationNetwork("deeplabv3plus", "resnet18", num_classes=3)
    planar = [module for module in network.modules() if isinstance(module, PlanarDepthwise)]
    assert sorted(module.dilation[0] for module in planar) == [6, 12, 18]
