"""Dilated depthwise convolutions, which take most of DeepLabV3+'s ASPP on a CPU unless they are given planes."""

from __future__ import annotations

from torch import Tensor, nn


class PlanarDepthwise(nn.Conv2d):
    """A depthwise convolution that is computed channel by channel on a CPU, whatever the memory format.

    oneDNN's kernels for channels-last memory are two to three times as slow where the taps lie far apart.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type == "cpu":
            # a weight of one channel counts as channels last by its strides; these become those of planes
            input, weight = input.contiguous(), weight.flatten(1).view_as(weight)
        output: Tensor = super()._conv_forward(input, weight, bias)
        return output


def use_planes(network: nn.Module) -> None:
    """Makes every dilated depthwise convolution in ``network`` a ``PlanarDepthwise`` of the same parameters."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and max(module.dilation) > 1:
            module.__class__ = PlanarDepthwise  # same fields, same state dict; only the way it is computed differs
