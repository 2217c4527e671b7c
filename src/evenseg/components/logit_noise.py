"""BLV: noise on the logits of the losses, larger for rarer classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from evenseg.components.base import Component
from evenseg.components.running_share import RunningShare, label_mass
from evenseg.functional.class_prior import labeled_share, rarity, vary_logits
from evenseg.functional.random import slot_rand
from evenseg.types import Fraction, NetworkOutput, NonNegative, PseudoTarget, Step


class LogitNoise(Component):
    """Balanced logit variation: positive noise on every logit in the losses, up to 1 for the rarest class.

    So every class is learned as if it took up a region, which is the larger the fewer pixels it has. There is none at
    inference and in the teacher.

    Source: Wang et al., "Balancing Logit Variation for Long-Tailed Semantic Segmentation" (BLV), CVPR 2023,
    https://arxiv.org/abs/2306.02061. Its code has the loss of labeled images alone; on unlabeled ones, ours, the
    counts are a running average of pseudo-labels.

    Args:
        sigma: standard deviation of the normal numbers, whose absolute value is cut off at 1.
        unlabeled: rarity in the losses of unlabeled images: by ``predicted`` pixels, by ``labeled`` ones, or ``none``
            for no noise there.
        momentum: of the running share of predicted pixels.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    def __init__(
        self,
        *,
        sigma: NonNegative = 4.0,
        unlabeled: Literal["predicted", "labeled", "none"] = "predicted",
        momentum: Fraction = 0.999,
        class_frequency: Tensor,
    ) -> None:
        super().__init__()
        self.sigma, self.unlabeled = sigma, unlabeled
        self.labeled: Tensor
        self.register_buffer("labeled", labeled_share(class_frequency))
        self.predicted = RunningShare(labeled_share(class_frequency), momentum)

    def adjust(self, logits: Tensor, step: Step, *, labeled: bool) -> Tensor:
        """The student's logits as its losses see them."""
        if not labeled and self.unlabeled == "none":
            return logits
        share = self.predicted.value if not labeled and self.unlabeled == "predicted" else self.labeled
        kind, slot = ("labeled", step.labeled_slot) if labeled else ("unlabeled", step.unlabeled_slot)
        uniform = slot_rand(
            step.seed, step.index, slot, tuple(logits.shape), stream=f"logit noise {kind}", device=logits.device
        )
        return vary_logits(logits, uniform, rarity(share), sigma=self.sigma)

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Moves the running share; the target stays as it is."""
        if self.training and self.unlabeled == "predicted":
            self.predicted.move(label_mass(target))
        return target

    def figures(self) -> dict[str, Tensor]:
        """The rarity of every class in the losses of unlabeled images."""
        return {"class_rarity": rarity(self.predicted.value)} if self.unlabeled == "predicted" else {}
