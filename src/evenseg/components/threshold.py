"""Weighting pseudo-labels by the confidence of the teacher."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from evenseg.components.base import Component
from evenseg.functional.distributed import sum_over_ranks
from evenseg.types import Fraction, NetworkOutput, PseudoTarget, Step

Weighting = Literal["pixel", "fraction", "confidence", "none"]


class Threshold(Component):
    """Multiplies the weight of a pseudo target by what its confidence deserves.

    ``pixel``: 1 where the confidence reaches the threshold, else 0 (FixMatch, Sohn et al., NeurIPS
    2020). ``fraction``: every pixel by the share of valid pixels of the global batch that reach it
    (CutMix-Seg, French et al., BMVC 2020; ClassMix). ``confidence``: every pixel by its confidence.
    ``none``: no change.

    Args:
        threshold: confidence in [0, 1].
        weighting: one of the four readings above.
    """

    def __init__(self, threshold: Fraction = 0.95, *, weighting: Weighting = "pixel") -> None:
        super().__init__()
        self.threshold = threshold
        self.weighting = weighting

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """See the class; ``weak`` is not looked at."""
        return self.weigh(target)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """``target`` with its weight multiplied; ``confidence`` (B, H, W) if it is known already."""
        if self.weighting == "none":
            return target
        if confidence is None:
            confidence = target.confidence
        if self.weighting == "confidence":
            factor = confidence
        elif self.weighting == "pixel":
            factor = (confidence >= self.threshold).float()
        else:
            valid = torch.ones_like(confidence) if target.valid is None else target.valid.float()
            counts = torch.stack([((confidence >= self.threshold) * valid).sum(), valid.sum()])
            reached, everywhere = sum_over_ranks(counts)
            factor = reached / everywhere.clamp(min=1)
        return target._replace(weight=target.weight * factor)
