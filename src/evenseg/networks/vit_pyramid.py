"""UperNet and SegFormer on plain vision transformers: four maps of one stride become a pyramid."""

from __future__ import annotations

from typing import Any

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from segmentation_models_pytorch.encoders import TimmViTEncoder
from torch import Tensor, nn

_WIDTH = 256  # of both decoders, as smp has them


class ViTPyramid(nn.Module):
    """UperNet's or SegFormer's decoder on a plain vision transformer.

    Maps after a quarter, half, three quarters and all of the blocks are enlarged four and two times, kept, and
    halved; patches of 14 pixels count as such of 16. These layers belong to the decoder: they are new, and train at
    the rate of the heads.

    Source of the pyramid: Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, whose segmenter is
    UperNet on such maps. SegFormer's decoder on them is ours.

    Args:
        architecture: ``upernet`` or ``segformer``.
        encoder_name: ``tu-`` and a timm name.
        encoder_weights: true for the pretrained weights that belong to the name.
        classes: C.
        options: for ``timm.create_model``.
    """

    def __init__(
        self, architecture: str, encoder_name: str, encoder_weights: str | bool | None, classes: int, **options: bool
    ) -> None:
        super().__init__()
        self.encoder = TimmViTEncoder(
            encoder_name.removeprefix("tu-"), pretrained=bool(encoder_weights), num_classes=0, **options
        )
        self.decoder = _PyramidDecoder(architecture, self.encoder.out_channels)
        self.segmentation_head = nn.Conv2d(_WIDTH, classes, kernel_size=1)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)
        self.multiple = self.encoder.output_strides[-1]


class _PyramidDecoder(nn.Module):
    """The encoder's output as it is, (maps, prefix tokens), to (B, 256, 4 h, 4 w) for maps of h x w patches."""

    def __init__(self, architecture: str, channels: list[int]) -> None:
        super().__init__()
        first, second = channels[:2]
        self.pyramid = nn.ModuleList(
            [
                nn.Sequential(_doubled(first), nn.BatchNorm2d(first), nn.GELU(), _doubled(first)),
                _doubled(second),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, ceil_mode=True),  # a grid of odd size keeps its edge
            ]
        )
        widths = [0, 0, *channels]  # smp counts from the image's own size; both start at stride 4
        if architecture == "upernet":
            self.head: Any = UPerNetDecoder(widths, encoder_depth=5, decoder_channels=_WIDTH)
        else:
            self.head = SegformerDecoder(widths, encoder_depth=5, segmentation_channels=_WIDTH)

    def forward(self, encoded: tuple[list[Tensor], list[Tensor | None]]) -> Tensor:
        maps = [layer(feature) for layer, feature in zip(self.pyramid, encoded[0], strict=True)]
        batch, _, height, width = maps[0].shape
        # stands for the maps of stride 1 and 2, of which the decoders use nothing but the size
        empty = maps[0].new_empty(batch, 0, 4 * height, 4 * width)
        decoded: Tensor = self.head([empty, empty, *maps])
        return decoded


def _doubled(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
