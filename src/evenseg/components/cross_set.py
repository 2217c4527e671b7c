"""CutMix between labeled and unlabeled images, undone in what the student says of the mixtures."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from evenseg.functional.boxes import box_to_mask, random_box
from evenseg.functional.cross_set import Places, cross_set_partner, swap
from evenseg.functional.random import slot_uniform
from evenseg.types import NetworkOutput, Step

Pairing = Literal["random", "cross_only", "intra", "none"]


class Mixture(NamedTuple):
    """Which pixels change places: partner (B,) int64, mask (B, 1, H, W) bool, the same as ``Places``; all None: none.

    Images, maps of any size and network outputs are mixed by a call, and a second call gives them back.
    """

    partner: Tensor | None = None
    mask: Tensor | None = None
    places: Places | None = None

    def __call__(self, value: Tensor, *, planes: bool = False) -> Tensor:
        """(B, K, h, w) or (B, h, w), mixed; see ``swap``."""
        if self.partner is None or self.mask is None:
            return value
        return swap(value, self.partner, self.mask, places=self.places, planes=planes)

    def output(self, output: NetworkOutput) -> NetworkOutput:
        """Logits, heads and coarse logits, mixed; features, which nobody may take for one image's, are left out."""
        heads, coarse = ({name: self(value) for name, value in each.items()} for each in (output.heads, output.coarse))
        return NetworkOutput(self(output.logits, planes=True), heads=heads, coarse=coarse)


class CrossSetMixer(nn.Module):
    """Pairs labeled and unlabeled images at random and lets each pair exchange a box of half of the area.

    Pairs lie within groups of two labeled and two unlabeled images, those of the slots 2k and 2k + 1, so that the
    mixtures do not depend on how the global batch is spread over processes and micro-batches.

    Source: Zhou et al., "C3-SemiSeg", ICCV 2021, Section 3.2 and Eq. 4.

    Args:
        pairing: ``random``: an image meets one of the other set in two of three cases; ``cross_only``: always;
            ``intra``: never; ``none``: nothing is mixed.
    """

    def __init__(self, pairing: Pairing = "random") -> None:
        super().__init__()
        self.pairing = pairing

    def draw(self, step: Step, labeled: Tensor, unlabeled: Tensor) -> Mixture:
        """The mixture of (b, 3, H, W) labeled images followed by as many unlabeled ones.

        Raises:
            ValueError: their numbers or sizes differ, or the number is odd.
        """
        if self.pairing == "none":
            return Mixture()
        batch, _, height, width = labeled.shape
        if labeled.shape != unlabeled.shape or batch % 2:
            shapes = " and ".join(str(tuple(images.shape)) for images in (labeled, unlabeled))
            raise ValueError(f"labeled and unlabeled images must be equally many, an even number, not {shapes}")
        groups = batch // 2
        uniform = slot_uniform(step.seed, step.index, step.labeled_slot // 2, groups, 13, stream="cross set")
        partner = cross_set_partner(uniform[:, 0], pairing=self.pairing)
        boxes = uniform[:, 1:].view(groups, 4, 3)  # one per image, of which a pair takes its first's
        boxes = torch.cat([boxes[:, :2].flatten(0, 1), boxes[:, 2:].flatten(0, 1)])
        corners = random_box(boxes[torch.minimum(partner, torch.arange(2 * batch))], height, width)
        places = Places(partner.tolist(), corners.tolist(), (height, width))
        mask = box_to_mask(corners, height, width)
        on_device = partial(torch.Tensor.to, device=labeled.device, non_blocking=True)
        return Mixture(on_device(partner), on_device(mask), places)
