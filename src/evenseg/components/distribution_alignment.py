"""Distribution alignment: pseudo-labels whose class shares are, on average, those of the labeled images."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from evenseg.components.base import Component
from evenseg.components.running_share import RunningShare, prob_mass
from evenseg.functional.class_prior import labeled_share, shift_prob
from evenseg.functional.labeling_rules import alignment_bias
from evenseg.types import Fraction, NetworkOutput, PseudoTarget, Step, StepViews


class DistributionAlignment(Component):
    """Multiplies the teacher's probabilities by wanted share / running mean of them, and normalises.

    Sources: Berthelot et al., "ReMixMatch", ICLR 2020; Wei et al., "CReST", CVPR 2021 (CReST+, the power); Sun et al.,
    "DAW: Exploring the Better Weighting Function for Semi-supervised Semantic Segmentation", NeurIPS 2023, whose
    alignment is between predictions on labeled and on unlabeled images (from its abstract).

    Args:
        wanted: the shares to be aligned with: of the pixels of the ``labels``, or a running mean of the student's
            ``predictions`` on labeled images.
        power: of the wanted shares; 1 aims at them, 0 at equal shares.
        momentum: of the running means.
        class_frequency: (C,) labeled pixels per class, handed in by the framework.
    """

    def __init__(
        self,
        *,
        wanted: Literal["labels", "predictions"] = "labels",
        power: Fraction = 1.0,
        momentum: Fraction = 0.99,
        class_frequency: Tensor,
    ) -> None:
        super().__init__()
        self.wanted, self.power = wanted, power
        share = labeled_share(class_frequency)
        # both start at the labels' shares, by which the first steps change nothing but by the power
        self.mean = RunningShare(share, momentum)
        self.target = RunningShare(share, momentum)

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Moves the mean, then aligns the probabilities with the wanted shares."""
        if self.training:
            self.mean.move(prob_mass(target.prob, target.valid))
        bias = alignment_bias(self.target.value, self.mean.value, power=self.power)
        return target._replace(prob=shift_prob(target.prob, bias))

    def update(self, views: StepViews, step: Step) -> None:
        """The wanted shares follow the student's predictions on labeled pixels."""
        if self.wanted == "predictions" and self.training:
            prob = views.labeled.logits.detach().float().softmax(dim=1)
            self.target.move(prob_mass(prob, views.label != views.ignore_index))

    def figures(self) -> dict[str, Tensor]:
        """The running mean of the teacher's probabilities."""
        return {"mean_prediction": self.mean.value}
