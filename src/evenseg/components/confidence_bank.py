"""How well every class is doing, remembered over many steps."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from evenseg.components.base import Component
from evenseg.functional.class_statistics import Indicator, class_confidence
from evenseg.functional.distributed import sum_over_ranks
from evenseg.types import Fraction, Size, Step, StepViews


class ConfidenceBank(Component):
    """A running mean, per class, of how well the student predicts it on labeled pixels.

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL), NeurIPS
    2021, Section 3.3, Eq. 4-7. The paper leaves open what a class without a pixel in the batch contributes. Its
    official code counts 0, by which a class right at 0.9 but present in one batch of twenty settles at 0.045: a
    bank of frequencies as much as of competence. Here such a class is passed over.

    Alone it changes nothing, and logs ``class_confidence``.

    Args:
        indicator: ``confidence`` of the labeled class; its ``margin`` over the second largest; ``entropy``.
        momentum: share of the old mean that a step keeps (tau in Eq. 7).
        reduction: mean over all ``pixel``s of a class, or (Eq. 4 as printed) over the means of ``image``s.
        absent: a class without a pixel in the batch: ``skip`` it, or count ``zero``.
        init: ``debias``: the mean of all observations so far, as Adam's; ``random``: from a random value in
            [0, 1), a third of which is left after 1,000 steps (the official code).
        stride: look at every so manieth row and column only.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    value: Tensor
    observations: Tensor

    def __init__(
        self,
        *,
        indicator: Indicator = "confidence",
        momentum: Fraction = 0.999,
        reduction: Literal["pixel", "image"] = "pixel",
        absent: Literal["skip", "zero"] = "skip",
        init: Literal["debias", "random"] = "debias",
        stride: Size = 1,
        class_frequency: Tensor,
    ) -> None:
        super().__init__()
        if momentum == 1:
            raise ValueError("momentum: a bank with momentum 1 never learns anything; choose less, such as 0.999")
        self.indicator = indicator
        self.momentum = momentum
        self.reduction = reduction
        self.absent = absent
        self.init = init
        self.stride = stride
        classes = len(class_frequency)
        self.register_buffer("value", torch.rand(classes) if init == "random" else torch.zeros(classes))
        self.register_buffer("observations", torch.zeros(classes, dtype=torch.int64))

    def update(self, views: StepViews, step: Step) -> None:
        """Eq. 4-6 of the student's output on the labeled images of all ranks, then Eq. 7."""
        thin = (..., slice(None, None, self.stride), slice(None, None, self.stride))
        total, count = sum_over_ranks(
            torch.stack(
                class_confidence(
                    views.labeled.logits[thin],
                    views.label[thin],
                    indicator=self.indicator,
                    reduction=self.reduction,
                    ignore_index=views.ignore_index,
                    log_prob=None if views.log_prob is None else views.log_prob[thin],
                )
            )
        )
        observed = (count > 0) | (self.absent == "zero")
        mean = total / count.clamp(min=1)
        # assigned in place, so that the buffer stays the one that is saved and guarded
        self.value.copy_(torch.where(observed, self.momentum * self.value + (1 - self.momentum) * mean, self.value))
        self.observations += observed

    def mean(self) -> Tensor:
        """The indicator of every class, (C,) float32; 0 for one that has not been seen yet."""
        if self.init == "random":
            return self.value
        # 1 - momentum^n without the cancellation
        weight = (
            -torch.expm1(self.observations * math.log(self.momentum)) if self.momentum > 0 else self.known().float()
        )
        return torch.where(self.known(), self.value / weight.clamp(min=1e-12), 0.0)

    def known(self) -> Tensor:
        """(C,) bool, the classes that have been seen."""
        return torch.ones_like(self.observations, dtype=torch.bool) if self.init == "random" else self.observations > 0

    def score(self) -> Tensor:
        """How badly each class is doing: (C,) in [0, 1], [0, 1.5] for the margin; 1 for classes not seen yet.

        1 - confidence (the u of Eq. 9 and 10). Of the other indicators the paper does not say how they enter there:
        1 - margin, and the entropy as a share of log C.
        """
        mean = self.mean()
        if self.indicator == "entropy":
            score = mean / math.log(max(len(mean), 2))
        else:
            score = (1 - mean).clamp(0, 1.5)
        return torch.where(self.known(), score, 1.0)

    def figures(self) -> dict[str, Tensor]:
        """The mean indicator of every class."""
        return {f"class_{self.indicator}": self.mean()}


def bank_or_new(bank: ConfidenceBank | None, class_frequency: Tensor) -> ConfidenceBank:
    """``bank``, or one with the defaults. Raises ValueError for a component that is no bank."""
    if bank is None:
        return ConfidenceBank(class_frequency=class_frequency)
    if not isinstance(bank, ConfidenceBank):
        raise ValueError(f"bank: a {type(bank).__name__} keeps no confidences; choose confidence_bank")
    return bank
