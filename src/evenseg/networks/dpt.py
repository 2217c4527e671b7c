"""DPT for any patch size: smp's parts, put together so that patches of 14 pixels (DINOv2) fit too."""

from __future__ import annotations

import math

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from segmentation_models_pytorch.encoders import TimmViTEncoder
from torch import Tensor, nn

_INTERMEDIATE_CHANNELS = (256, 512, 1024, 1024)
_FUSION_CHANNELS = 256


class DPT(nn.Module):
    """Dense prediction transformer (Ranftl et al., ICCV 2021) on a timm vision transformer.

    smp's own class scales each map by its stride over 4, 8, 16 and 32, which must divide evenly; here the
    patch grid counts as one of the nearest power of two, as in the DINOv2 segmenters, and the final
    upsampling makes up the difference.

    Args:
        encoder_name: ``tu-`` and a timm name.
        encoder_weights: true for the pretrained weights that belong to the name.
        classes: C.
        options: for ``timm.create_model``.
    """

    def __init__(self, encoder_name: str, encoder_weights: str | bool | None, classes: int, **options: bool) -> None:
        super().__init__()
        if not encoder_name.startswith("tu-"):
            raise ValueError("dpt needs a vision transformer of timm, such as tu-vit_small_patch16_224")
        self.encoder = TimmViTEncoder(
            encoder_name.removeprefix("tu-"), pretrained=bool(encoder_weights), num_classes=0, **options
        )
        strides = [2 ** round(math.log2(stride)) for stride in self.encoder.output_strides]
        self.decoder = _Decoder(
            encoder_out_channels=self.encoder.out_channels,
            encoder_output_strides=strides,
            encoder_has_prefix_tokens=self.encoder.has_prefix_tokens,
            readout="cat" if self.encoder.has_prefix_tokens else "ignore",
            intermediate_channels=_INTERMEDIATE_CHANNELS,
            fusion_channels=_FUSION_CHANNELS,
        )
        self.segmentation_head = DPTSegmentationHead(_FUSION_CHANNELS, classes).head
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)
        # the coarsest map is at stride 32 of a grid that must split evenly on the way there
        self.multiple = self.encoder.output_strides[-1] * max(32 // strides[-1], 1)


class _Decoder(DPTDecoder):  # type: ignore[misc]
    """smp's decoder, fed by the encoder's output as it is: (maps, prefix tokens)."""

    def forward(self, encoded: tuple[list[Tensor], list[Tensor | None]]) -> Tensor:
        decoded: Tensor = super().forward(*encoded)
        return decoded
