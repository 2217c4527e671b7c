"""Adaptive Copy-Paste: classes that do badly are pasted into more labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from evenseg.components.base import Component
from evenseg.components.confidence_bank import ConfidenceBank, bank_or_new
from evenseg.components.requests import LAG, Requests
from evenseg.functional.class_statistics import sampling_probability
from evenseg.functional.mixing import class_mask
from evenseg.functional.partners import choose_class, choose_classes, choose_partner
from evenseg.functional.random import slot_uniform
from evenseg.types import Batch, DataFacts, Fraction, PasteSpec, Positive, Size, Step


class AdaptiveCopyPaste(Component):
    """All pixels of a few classes of a second labeled image are pasted into a labeled one (ACP).

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL), NeurIPS
    2021, Section 3.3; Ghiasi et al., "Simple Copy-Paste", CVPR 2021, for the large-scale jitter. Deviation from the
    official code: every image has classes of its own, distinct unless ``replacement``.

    Args:
        classes: classes per image (K).
        probability: share of the images that are pasted into.
        scale: smallest and largest scale of the second image; half of the draws lie below 1, half above.
        temperature: of the softmax that classes are drawn from; below 1 the worst ones come more often.
        power: of the scores before the softmax; the official code has 0.5.
        excluded: names of classes that are never pasted; the official code leaves out the large ones.
        replacement: draw each class among all, so that there may be fewer than ``classes`` (the official code).
        source: the second image: ``uniform``, any labeled one; ``containing``: one that shows the first class drawn.
        bank: where the scores come from; default: a confidence_bank.
        data: names, labeled images, batch size; handed in by the framework.
    """

    def __init__(
        self,
        *,
        classes: Size = 3,
        probability: Fraction = 0.5,
        scale: tuple[Positive, Positive] = (0.1, 2.0),
        temperature: Positive = 1.0,
        power: Positive = 1.0,
        excluded: Sequence[str] = (),
        replacement: bool = False,
        source: Literal["uniform", "containing"] = "uniform",
        bank: ConfidenceBank | None = None,
        data: DataFacts,
    ) -> None:
        super().__init__()
        if not scale[0] <= 1 <= scale[1]:
            raise ValueError(f"scale: half of the draws lie below 1 and half above, which {list(scale)} does not allow")
        self.classes = classes
        self.temperature = temperature
        self.power = power
        self.replacement = replacement
        self.paste = PasteSpec(probability, (scale[0], scale[1]))
        self.bank = bank_or_new(bank, data.class_frequency)
        self.allowed: Tensor
        self.register_buffer("allowed", _allowed(data.class_names, excluded), persistent=False)
        self.requests = Requests("labeled", data.labeled_batch) if source == "containing" else None
        self.presence: Tensor | None
        self.register_buffer("presence", data.presence, persistent=False)

    def class_probability(self) -> Tensor:
        """Of each class to be drawn, (C,), sums to 1 (Eq. 9)."""
        return sampling_probability(
            self.bank.score(), temperature=self.temperature, power=self.power, allowed=self.allowed
        )

    def prepare(self, batch: Batch, step: Step) -> Batch:
        """Image, label and further maps with the pixels of the drawn classes of ``labeled.paste``."""
        labeled = batch.labeled
        if labeled.paste is None:
            return batch
        mask = class_mask(labeled.paste.label, self._drawn(len(labeled.image), step))
        flat = mask.squeeze(1)
        pasted = labeled._replace(
            image=torch.where(mask, labeled.paste.image, labeled.image),
            label=torch.where(flat, labeled.paste.label, labeled.label),
            maps={name: torch.where(flat, labeled.paste.maps[name], own) for name, own in labeled.maps.items()},
        )
        return batch._replace(labeled=pasted)

    def _drawn(self, images: int, step: Step) -> Tensor:
        """(images, C) bool, the classes to paste into each image."""
        probability = self.class_probability()
        draws = self.classes if self.replacement else len(probability)
        uniform = slot_uniform(step.seed, step.index, step.labeled_slot, images, draws, stream="copy-paste")
        uniform = uniform.to(probability.device, non_blocking=True)
        if self.requests is None:
            return choose_classes(probability, self.classes, uniform, replacement=self.replacement)
        wanted = self.requests.wanted_at(step, images)
        first = wanted[:, None] == torch.arange(len(probability), device=wanted.device)
        if self.replacement:
            return choose_classes(probability, self.classes, uniform, replacement=True) | first
        # without replacement the smallest number comes first
        return choose_classes(probability, self.classes, torch.where(first, 0.0, uniform))

    def step_end(self, step: Step) -> None:
        """Ask for images that contain what is wanted ``LAG`` steps from now."""
        if self.requests is None or self.presence is None:
            return
        slots = self.requests.batch
        uniform = slot_uniform(step.seed, step.index + LAG, 0, slots, 2, stream="copy-paste source")
        uniform = uniform.to(self.presence.device, non_blocking=True)
        wanted = choose_class(self.class_probability(), uniform[:, 0])
        self.requests.make(step, wanted, choose_partner(self.presence, wanted, uniform[:, 1]))


def _allowed(names: Sequence[str], excluded: Sequence[str]) -> Tensor:
    unknown = [name for name in excluded if name not in names]
    if unknown:
        raise ValueError(f"excluded: there is no class {unknown[0]!r}; there are {', '.join(names)}")
    allowed = torch.tensor([name not in excluded for name in names])
    if not allowed.any():
        raise ValueError("excluded: no class is left to be pasted")
    return allowed
