"""DPT for any patch size: smp's parts, put together so that patches of 14 pixels (DINOv2) fit too."""

from __future__ import annotations

import math

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead, FusionBlock
from segmentation_models_pytorch.encoders import TimmViTEncoder
from torch import Tensor, nn
from torch.nn import functional as F

_INTERMEDIATE_CHANNELS = (256, 512, 1024, 1024)
_FUSION_CHANNELS = 256


class DPT(nn.Module):
    """Dense prediction transformer (Ranftl et al., ICCV 2021) on a timm vision transformer.

    smp's own class scales each map by its stride over 4, 8, 16 and 32, which must divide evenly; here the
    patch grid counts as one of the nearest power of two, as in the DINOv2 segmenters, and the final
    upsampling makes up the difference. Grids of odd size are taken as they are.

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
        self.multiple = self.encoder.output_strides[-1]


class _Decoder(DPTDecoder):  # type: ignore[misc]
    """smp's decoder, fed by the encoder's output as it is: (maps, prefix tokens).

    A map is enlarged to the size of the next, which is twice its own where the grid of patches is even: a crop of 518
    has 37 patches of 14 pixels, and its coarsest map 19.
    """

    def forward(self, encoded: tuple[list[Tensor], list[Tensor | None]]) -> Tensor:
        parts = zip(*encoded, self.projection_blocks, self.reassemble_blocks, strict=True)
        maps = [reassemble(project(feature, tokens)) for feature, tokens, project, reassemble in parts][::-1]
        height, width = maps[-1].shape[-2:]
        sizes = [*(each.shape[-2:] for each in maps[1:]), (2 * height, 2 * width)]
        fused: Tensor | None = None
        for block, feature, size in zip(self.fusion_blocks, maps, sizes, strict=True):
            fused = _fuse(block, feature, fused, size)
        assert fused is not None
        return fused


def _fuse(block: FusionBlock, feature: Tensor, previous: Tensor | None, size: tuple[int, int]) -> Tensor:
    """A fusion block of smp, whose result has a size of our choice."""
    fused: Tensor = block.residual_conv_block1(feature)
    if previous is not None:
        fused = fused + previous
    fused = block.residual_conv_block2(fused)
    projected: Tensor = block.project(F.interpolate(fused, size=size, mode="bilinear", align_corners=True))
    return projected
