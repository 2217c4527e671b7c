"""DeepLabV2: a ResNet of output stride 8 and a sum of dilated convolutions, as in the papers."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

RATES = (6, 12, 18, 24)


class DeepLabV2Head(nn.Module):
    """Atrous spatial pyramid pooling of Chen et al., TPAMI 2018: parallel dilated 3x3 convolutions, summed.

    All four branches take part. Much public code (from AdvSemiSeg's on) returns from inside the loop and
    sums only the first two; ``rates=(6, 12)`` gives that network.

    Args:
        in_channels: channels of the encoder's last map.
        num_classes: C.
        rates: dilation of each branch.
    """

    def __init__(self, in_channels: int, num_classes: int, rates: tuple[int, ...] = RATES) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_dilated(in_channels, num_classes, rate) for rate in rates)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, in_channels, h, w) to logits (B, C, h, w)."""
        logits: Tensor = self.branches[0](feature)
        for branch in self.branches[1:]:
            logits = logits + branch(feature)
        return logits


def _dilated(in_channels: int, num_classes: int, rate: int) -> nn.Conv2d:
    branch = nn.Conv2d(in_channels, num_classes, kernel_size=3, padding=rate, dilation=rate)
    nn.init.normal_(branch.weight, std=0.01)
    assert branch.bias is not None
    nn.init.zeros_(branch.bias)
    return branch


class LastFeature(nn.Module):
    """The decoder of a network that has none: the encoder's last map."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """The last of the encoder's maps."""
        return features[-1]


class DeepLabV2(nn.Module):
    """Encoder, no decoder, :class:`DeepLabV2Head`; the parts carry smp's names.

    The papers use ResNet-101 with ``encoder_output_stride=8``. Their batch norm is frozen:
    ``SegmentationNetwork(..., norm="frozen")``.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | bool | None,
        classes: int,
        encoder_output_stride: int = 8,
        aspp_branches: int = len(RATES),
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, weights=encoder_weights, output_stride=encoder_output_stride
        )
        self.decoder = LastFeature()
        self.segmentation_head = DeepLabV2Head(self.encoder.out_channels[-1], classes, RATES[:aspp_branches])
