"""A second network that shares the low stages of the first: what an auxiliary task of its own is learned with."""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from evenseg.errors import InputError

# What a branch has in common with its network: nothing; the encoder up to its map at stride 4; all but the classifier.
Share = Literal["low", "none", "high"]

# Names of the encoder stages behind the map at stride 4: of ResNets and what is built like them, of ConvNeXt.
_STAGES = (("layer2", "layer3", "layer4"), ("stages_1", "stages_2", "stages_3"))


class Shared(NamedTuple):
    """What the network has computed: its normalised images, the encoder's maps, and the decoder's output."""

    image: Tensor
    maps: list[Tensor]
    decoded: Tensor


class Branch(nn.Module):
    """Decoder and classifier of their own on an encoder that is shared up to some stage.

    The stages of the encoder that are not shared start as copies, decoder and classifier at random.

    Source: Guan et al., "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation" (USRN), CVPR
    2022, Section 4.1 and Table 5.

    Args:
        stages: the encoder's own stages: all of it (``share="none"``), those behind ``low``, or none.
        decoder: None where it is shared.
        segmentation_head: the classifier.
        share: see ``Share``.
        low: position of the last shared map among the encoder's.
    """

    def __init__(
        self, stages: nn.Module, decoder: nn.Module | None, segmentation_head: nn.Module, share: Share, low: int
    ) -> None:
        super().__init__()
        self.encoder = stages
        self.decoder = decoder
        self.segmentation_head = segmentation_head
        self.share = share
        self.low = low

    def forward(self, shared: Shared) -> Tensor:
        """Logits (B, K, h, w) at the decoder's size."""
        if self.decoder is None:
            return self.segmentation_head(shared.decoded)  # type: ignore[no-any-return]
        if self.share == "none":
            maps = self.encoder(shared.image)
        else:
            maps = shared.maps[: self.low + 1]
            for stage in self.encoder.children():
                maps = [*maps, stage(maps[-1])]
        return self.segmentation_head(self.decoder(maps))  # type: ignore[no-any-return]


def own_stages(encoder: nn.Module, share: Share, low: int, name: str) -> nn.Module:
    """Copies of the stages of an encoder that a branch does not share.

    Args:
        encoder: whose forward returns a list of maps, the one at position ``low`` at stride 4.
        share: see ``Share``.
        low: position of the last shared map.
        name: of the encoder, for the message.

    Raises:
        InputError: the encoder cannot be divided behind that map.
    """
    if share == "high":
        return nn.Sequential()
    if share == "none":
        return copy.deepcopy(encoder)
    stages = _stages_behind(encoder, low)
    if stages is None:
        raise InputError(
            f"share: the encoder {name} cannot be divided behind its map at stride 4; choose share=none or high, or "
            "an encoder with stages of that kind, such as resnet50"
        )
    return nn.Sequential(*copy.deepcopy(stages))


@torch.no_grad()
def _stages_behind(encoder: nn.Module, low: int) -> list[nn.Module] | None:
    """The modules that make the maps behind ``low`` one of the other; None where there are none such."""
    training = encoder.training
    encoder.eval()
    try:
        maps = encoder(torch.rand(1, 3, 64, 64))
        if not isinstance(maps, list):  # a transformer's, with its tokens
            return None
        for names in _STAGES:
            holder = next((m for m in encoder.modules() if all(hasattr(m, name) for name in names)), None)
            if holder is None:
                continue
            stages = [getattr(holder, name) for name in names][: len(maps) - 1 - low]
            if _lead_on(stages, maps[low:]):
                return stages
        return None
    finally:
        encoder.train(training)


def _lead_on(stages: list[nn.Module], maps: list[Tensor]) -> bool:
    """Whether each stage makes of each map the next one: names alone prove nothing."""
    if len(stages) != len(maps) - 1:
        return False
    try:
        return all(torch.equal(stage(maps[i]), maps[i + 1]) for i, stage in enumerate(stages))
    except Exception:  # modules of that name that take something else
        return False
