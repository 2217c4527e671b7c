"""Adaptive CutMix: regions of classes that do badly are cut into more unlabeled images."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.components.base import Mixer
from evenseg.components.confidence_bank import ConfidenceBank, bank_or_new
from evenseg.components.mixers import blend, images_of
from evenseg.components.requests import LAG, Requests
from evenseg.functional.class_statistics import class_presence, sampling_probability
from evenseg.functional.distributed import concatenate_over_ranks
from evenseg.functional.mixing import box_to_mask, component_box_from
from evenseg.functional.partners import choose_class, choose_partner
from evenseg.functional.random import slot_uniform
from evenseg.types import DataFacts, Fraction, Positive, PseudoTarget, Step


class AdaptiveCutMix(Mixer):
    """The box around a region of a class that does badly, out of an image that shows it (ACM).

    Which unlabeled image shows which class is remembered as the teacher last saw it: in the crop it was given then.
    For every image a class is drawn, the worse it does the likelier, and a partner among the images that show it;
    the box is that around one connected region of the class in the partner. Where the crop of the partner does not
    show it, a random box of half of the area is taken.

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL), NeurIPS
    2021, Section 3.3. Partners are drawn ``LAG`` steps ahead so that they are loaded in time; up to then, and for a
    class that no image is known to show, any image is the partner. The official code drops one of two unlabeled
    images of a process and mixes the other: the same as half of ``train.unlabeled_batch``.

    Args:
        area_ratio: share of the image that a region has to exceed (0.005 in the paper).
        presence_ratio: share of the image that a class needs in order to count as shown; default ``area_ratio``.
            The official code has 0.01 on Cityscapes.
        temperature: of the softmax that classes are drawn from; below 1 the worst ones come more often.
        power: of the scores before the softmax.
        bank: where the scores come from; default: a confidence_bank.
        data: unlabeled images, batch size; handed in by the framework.
    """

    partners = True
    presence: Tensor

    def __init__(
        self,
        *,
        area_ratio: Fraction = 0.005,
        presence_ratio: Fraction | None = None,
        temperature: Positive = 1.0,
        power: Positive = 1.0,
        bank: ConfidenceBank | None = None,
        data: DataFacts,
    ) -> None:
        super().__init__()
        self.area_ratio = area_ratio
        self.presence_ratio = area_ratio if presence_ratio is None else presence_ratio
        self.temperature = temperature
        self.power = power
        self.bank = bank_or_new(bank, data.class_frequency)
        self.requests = Requests("unlabeled", data.unlabeled_batch)
        classes = len(data.class_frequency)
        self.register_buffer("presence", torch.zeros(classes, data.unlabeled_images, dtype=torch.bool))

    def class_probability(self) -> Tensor:
        """Of each class to be cut out, (C,), sums to 1 (Eq. 9)."""
        return sampling_probability(self.bank.score(), temperature=self.temperature, power=self.power)

    def forward(
        self,
        image: Tensor,
        target: PseudoTarget,
        step: Step,
        pasted: PseudoTarget | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, PseudoTarget]:
        """The first half of the images, each with a box of its partner in the second half."""
        count, (height, width) = len(image) // 2, image.shape[2:]
        source = target if pasted is None else pasted._replace(valid=target.valid, truth=target.truth)
        label = source.only_valid(source.label)
        if index is not None:
            self._remember(index, class_presence(label, len(self.presence), min_ratio=self.presence_ratio))
        uniform = slot_uniform(step.seed, step.index, step.unlabeled_slot, count, 5, stream="adaptive cutmix")
        uniform = uniform.to(image.device, non_blocking=True)
        asked = self.requests.wanted_at(step, count)
        wanted = torch.where(asked >= 0, asked, choose_class(self.class_probability(), uniform[:, 4]))
        boxes = component_box_from(label[count:], wanted, self.area_ratio * height * width, uniform[:, :4])
        mask = box_to_mask(boxes, height, width)
        mixed = blend(images_of(target, slice(None, count)), images_of(source, slice(count, None)), mask)
        return torch.where(mask, image[count:], image[:count]), mixed

    def step_end(self, step: Step) -> None:
        """Ask for partners that show what is wanted ``LAG`` steps from now."""
        uniform = slot_uniform(step.seed, step.index + LAG, 0, self.requests.batch, 2, stream="cutmix partner")
        uniform = uniform.to(self.presence.device, non_blocking=True)
        wanted = choose_class(self.class_probability(), uniform[:, 0])
        self.requests.make(step, wanted, choose_partner(self.presence, wanted, uniform[:, 1]))

    def figures(self) -> dict[str, Tensor]:
        """How probable each class is, and how many of the unlabeled images are known to show it."""
        return {
            "cutmix_probability": self.class_probability(),
            "images_showing_class": self.presence.sum(dim=1).float(),
        }

    def _remember(self, index: Tensor, shown: Tensor) -> None:
        """Set the columns of these images, on all ranks: (N,) positions, (N, C) bool. One seen twice: either view."""
        index, shown = concatenate_over_ranks(index), concatenate_over_ranks(shown.float())
        same = (index[:, None] == index).float()
        self.presence[:, index] = (same @ shown > 0).T
