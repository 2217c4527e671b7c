"""Logit adjustment: losses in which rare classes need no larger logits than frequent ones."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from evenseg.components.base import Component
from evenseg.components.running_share import RunningShare, label_mass
from evenseg.functional.class_prior import adjust_logits, labeled_share, shift_prob
from evenseg.types import Fraction, NetworkOutput, NonNegative, PseudoTarget, Step


class LogitAdjustment(Component):
    """Adds tau log(class share) to the student's logits in its losses, or takes it from the pseudo-labels.

    A network trained so learns to tell classes apart as if all were equally frequent; without the sum, at inference and
    in the teacher, rare classes are predicted more often. Taken from pseudo-labels instead, it does the same to those
    of a network that was trained as ever.

    Sources: Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021 (both ways); Ren et al., "Balanced
    Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020 (tau 1 in the loss). On unlabeled images: ours.

    Args:
        tau: strength.
        losses: those that are adjusted: ``all``, of the ``labeled`` images alone, or ``none``.
        pseudo_labels: whether tau log(share) is taken from the logits of pseudo-labels; with adjusted losses too, the
            share is taken out twice.
        share: class shares of the ``labeled`` pixels, or for unlabeled images a running one of the pixels ``predicted``
            as each class, before they are adjusted.
        momentum: of the running share.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    def __init__(
        self,
        *,
        tau: NonNegative = 1.0,
        losses: Literal["all", "labeled", "none"] = "all",
        pseudo_labels: bool = False,
        share: Literal["labeled", "predicted"] = "labeled",
        momentum: Fraction = 0.999,
        class_frequency: Tensor,
    ) -> None:
        super().__init__()
        if losses == "none" and not pseudo_labels:
            raise ValueError("losses: with none, and pseudo_labels false, nothing is adjusted; set one of them")
        self.tau, self.where, self.pseudo_labels, self.share = tau, losses, pseudo_labels, share
        self.labeled: Tensor
        self.register_buffer("labeled", labeled_share(class_frequency))
        self.predicted = RunningShare(labeled_share(class_frequency), momentum)

    def adjust(self, logits: Tensor, step: Step, *, labeled: bool) -> Tensor:
        """The student's logits as its losses see them."""
        if self.where == "none" or (self.where == "labeled" and not labeled):
            return logits
        return adjust_logits(logits, self.labeled if labeled else self._unlabeled(), tau=self.tau)

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Moves the running share, then adjusts the probabilities."""
        if self.training and self.share == "predicted":
            self.predicted.move(label_mass(target))
        if not self.pseudo_labels:
            return target
        bias = -self.tau * self._unlabeled().clamp(min=1e-7).log()
        return target._replace(prob=shift_prob(target.prob, bias))

    def figures(self) -> dict[str, Tensor]:
        """The running share."""
        return {"predicted_share": self.predicted.value} if self.share == "predicted" else {}

    def _unlabeled(self) -> Tensor:
        return self.predicted.value if self.share == "predicted" else self.labeled
