"""CutMix and ClassMix: one mask for image, probabilities, weights and validity alike.

Partners within a batch are neighbouring slots, 2k with 2k + 1, so that the mixture does not depend
on how the global batch is spread over ranks and micro-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.components.base import Mixer
from evenseg.functional.mixing import box_mask, choose_half_of_classes, class_mask, neighbour
from evenseg.functional.random import slot_uniform
from evenseg.types import Fraction, Positive, PseudoTarget, Size, Step


def mix(
    image: Tensor, target: PseudoTarget, mask: Tensor, pasted: PseudoTarget | None = None
) -> tuple[Tensor, PseudoTarget]:
    """Replace the masked pixels of every image by those of its neighbour.

    Args:
        image: (B, 3, H, W). target: its pseudo target.
        mask: (B, 1, H, W) bool, True where the neighbour shows.
        pasted: what an image's pixels are labeled with where they are pasted; default ``target``.
    """
    source = target if pasted is None else pasted
    partner = neighbour(len(image)).to(image.device, non_blocking=True)
    other = images_of(source._replace(valid=target.valid, truth=target.truth), partner)
    return torch.where(mask, image[partner], image), blend(target, other, mask)


def images_of(target: PseudoTarget, chosen: Tensor | slice) -> PseudoTarget:
    """The targets of some images of a batch."""
    maps = {name: value[chosen] for name, value in target.maps.items()}
    valid, truth = (None if field is None else field[chosen] for field in (target.valid, target.truth))
    return PseudoTarget(target.prob[chosen], target.weight[chosen], valid, truth, maps)


def blend(own: PseudoTarget, other: PseudoTarget, mask: Tensor) -> PseudoTarget:
    """``other`` where the (B, 1, H, W) mask is True, ``own`` elsewhere, in all fields that both have."""
    flat = mask.squeeze(1)

    def choose(there: Tensor | None, here: Tensor | None) -> Tensor | None:
        return None if there is None or here is None else torch.where(flat, there, here)

    return PseudoTarget(
        torch.where(mask, other.prob, own.prob),
        torch.where(flat, other.weight, own.weight),
        choose(other.valid, own.valid),
        choose(other.truth, own.truth),
        {name: torch.where(flat, other.maps[name], value) for name, value in own.maps.items() if name in other.maps},
    )


class CutMix(Mixer):
    """A random box of the neighbour in every image.

    Args:
        area: share of the image that the box covers, or [low, high] to draw it from uniformly.
        aspect: [low, high] of the box's height / width in pixels; null: any shape up to a full side.
        probability: share of the images that are mixed at all.
        boxes: how many boxes share the area, each of a shape of its own; what lies in an even number of them is
            not mixed.

    Sources: French et al., "Semi-supervised semantic segmentation needs strong, varied
    perturbations", BMVC 2020 (half of the area, no aspect); UniMatch, Yang et al., CVPR 2023
    (area [0.02, 0.4], aspect 0.3 to 1 / 0.3, probability 0.5); CPS, Chen et al., CVPR 2021 (three boxes, area
    [0.25, 0.5]).
    """

    def __init__(
        self,
        *,
        area: Fraction | tuple[Fraction, Fraction] = 0.5,
        aspect: tuple[Positive, Positive] | None = None,
        probability: Fraction = 1.0,
        boxes: Size = 1,
    ) -> None:
        super().__init__()
        self.boxes = boxes
        self.area = area if isinstance(area, tuple) else (area, area)
        self.aspect = aspect
        self.probability = probability
        for name, ends in (("area", self.area), ("aspect", self.aspect)):
            if ends is not None and ends[0] > ends[1]:
                raise ValueError(f"{name}: the low end of a range comes first, not {list(ends)}")

    def forward(
        self,
        image: Tensor,
        target: PseudoTarget,
        step: Step,
        pasted: PseudoTarget | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, PseudoTarget]:
        """Mixed images and targets."""
        batch, _, height, width = image.shape
        # of every box five numbers: its shape and place, whether the image is mixed (the first box's says), its area
        uniform = slot_uniform(step.seed, step.index, step.unlabeled_slot, batch, 5 * self.boxes, stream="cutmix")
        of_box = uniform.view(batch * self.boxes, 5)
        low, high = self.area
        area = low + (high - low) * of_box[:, 4]
        inside = box_mask(of_box[:, :3], height, width, area=area, aspect=self.aspect, parts=self.boxes)
        mask = inside.view(batch, self.boxes, height, width).sum(dim=1, keepdim=True) % 2 == 1
        mask &= (uniform[:, 3] < self.probability)[:, None, None, None]
        return mix(image, target, mask.to(image.device, non_blocking=True), pasted)


class ClassMix(Mixer):
    """Half of the predicted classes of every image are pasted onto its neighbour.

    Source: Olsson et al., "ClassMix: Segmentation-Based Data Augmentation for Semi-Supervised
    Learning", WACV 2021. Deviation: partners are neighbours, not the next image of a cycle.

    Args:
        probability: share of the images that are mixed at all.
    """

    def __init__(self, *, probability: Fraction = 1.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(
        self,
        image: Tensor,
        target: PseudoTarget,
        step: Step,
        pasted: PseudoTarget | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, PseudoTarget]:
        """Mixed images and targets."""
        batch, classes = target.prob.shape[:2]
        uniform = slot_uniform(step.seed, step.index, step.unlabeled_slot, batch, classes + 1, stream="classmix")
        label = (target if pasted is None else pasted).label
        valid = torch.ones_like(label, dtype=torch.bool) if target.valid is None else target.valid
        key = uniform[:, :classes].float().to(label.device, non_blocking=True)
        chosen = class_mask(torch.where(valid, label, -1), choose_half_of_classes(label, valid, key))
        mixed = (uniform[:, classes] < self.probability).to(label.device, non_blocking=True)
        # the mask of slot i marks what i gives to its neighbour, `mix` wants what i receives
        partner = neighbour(batch).to(label.device, non_blocking=True)
        return mix(image, target, chosen[partner] & mixed[:, None, None, None], pasted)
