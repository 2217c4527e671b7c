"""Which pixels of a pseudo-label teach, and how much: two parts of AEL."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from evenseg.components.base import Component
from evenseg.components.confidence_bank import ConfidenceBank, bank_or_new
from evenseg.functional.class_statistics import sampling_rate
from evenseg.functional.random import slot_rand
from evenseg.types import NetworkOutput, NonNegative, PseudoTarget, Step


class DynamicReweighting(Component):
    """Every pixel weighs as much as the teacher is sure of it, to a power (DR).

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL), NeurIPS
    2021, Eq. 13. There the weights of an image are divided by their sum (Eq. 12), which is the loss's business
    (``normalize``) and not done here.

    Args:
        gamma: the power; 0 changes nothing.
    """

    def __init__(self, *, gamma: NonNegative = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """weight * confidence^gamma (Eq. 13)."""
        return target._replace(weight=target.weight * target.confidence.pow(self.gamma))


class EqualizationSampling(Component):
    """Pixels of classes that are doing well are left out at random, so that the others are not drowned (AES).

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL), NeurIPS
    2021, Section 3.2, Eq. 10. Pixels are drawn independently; the official code draws one random field per class
    for all images of a batch.

    Args:
        beta: a class keeps (score / largest score)^beta of its pixels; 0 keeps all. The paper does not give it;
            the official code has 1.
        class_map: by whose prediction a pixel belongs to a class: the ``student``'s, or the ``teacher``'s
            pseudo-label.
        bank: where the scores come from; default: a confidence_bank.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    def __init__(
        self,
        *,
        beta: NonNegative = 1.0,
        class_map: Literal["student", "teacher"] = "student",
        bank: ConfidenceBank | None = None,
        class_frequency: Tensor,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.class_map = class_map
        self.bank = bank_or_new(bank, class_frequency)

    def rate(self) -> Tensor:
        """Share of its pixels that each class keeps, (C,) in [0, 1] (Eq. 10)."""
        return sampling_rate(self.bank.score(), beta=self.beta, known=self.bank.known())

    def select(self, target: PseudoTarget, student: NetworkOutput, step: Step) -> PseudoTarget:
        """weight * keep, keep ~ Bernoulli(rate of the pixel's class)."""
        label = student.logits.max(dim=1).indices if self.class_map == "student" else target.label
        drawn = slot_rand(
            step.seed, step.index, step.unlabeled_slot, label.shape, stream="equalization", device=label.device
        )
        return target._replace(weight=target.weight * (drawn < self.rate()[label]))

    def figures(self) -> dict[str, Tensor]:
        """The rates."""
        return {"sampling_rate": self.rate()}
