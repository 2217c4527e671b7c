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


class ProjectionHead(nn.Sequential):
    """1x1 convolution, ReLU, 1x1 convolution: the embedding in which pixels are contrasted.

    (B, in_channels, h, w) to (B, dimension, h, w), not normalised; weights are drawn with a standard deviation of
    0.01, as in the code of C3-SemiSeg (Zhou et al., ICCV 2021, Section 4.1).
    """

    def __init__(self, in_channels: int, dimension: int = 256) -> None:
        layers = nn.Conv2d(in_channels, dimension, kernel_size=1), nn.Conv2d(dimension, dimension, kernel_size=1)
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        super().__init__(layers[0], nn.ReLU(inplace=True), layers[1])


class RepresentationHead(nn.Sequential):
    """3x3 convolution, batch norm, ReLU, 1x1 convolution: the embedding that U2PL keeps in queues.

    (B, in_channels, h, w) to (B, dimension, h, w), not normalised.
    """

    def __init__(self, in_channels: int, dimension: int = 256) -> None:
        super().__init__(
            nn.Conv2d(in_channels, dimension, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(dimension),
            nn.ReLU(inplace=True),
            nn.Conv2d(dimension, dimension, kernel_size=1),
        )
