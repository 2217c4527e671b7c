"""Small prediction heads."""

from __future__ import annotations

from torch import nn


class FCNHead(nn.Sequential):
    """3x3 convolution, batch norm, ReLU, dropout 0.1, 1x1 classifier: the auxiliary head of PSPNet.

    (B, in_channels, h, w) to logits (B, num_classes, h, w); a quarter of the channels in between.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.1) -> None:
        hidden = max(in_channels // 4, 1)
        super().__init__(
            nn.Conv2d(in_channels, hidden, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(hidden, num_classes, kernel_size=1),
        )
