"""DCRS: a threshold per class that follows the teacher, so that every class keeps the same share of its pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.functional.distributed import sum_over_ranks
from evenseg.functional.pseudo_label import confidence_histogram, histogram_thresholds
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import Fraction, NetworkOutput, NonNegative, PseudoTarget, Step


class DynamicRegion(Component):
    """Dynamic Confident Region Selection: weight 0 below a moving threshold of the predicted class.

    In every batch the confidence that the surest share ``ratio`` of each class's pixels reach (``class_thresholds``,
    over the pixels inside the images of all processes) moves that class's threshold; a class that is not predicted
    keeps its own. The thresholds then select the pixels of the same batch. Micro-batches move them one by one.
    In eval mode they stand still.

    Source: Zhou et al., "C3-SemiSeg", ICCV 2021, Section 3.4 and Eq. 6.

    Args:
        ratio: share of each class that is kept, s in the paper; 1 keeps every pixel.
        momentum: of the thresholds, beta in the paper.
        initial: what they start from; null: each from the first batch in which its class is predicted.
        hard_power: makes unsure classes keep less: the share is ``ratio`` times the threshold to this power (Mei et
            al., "Instance Adaptive Self-Training", ECCV 2020, gamma); 0, as in the paper, treats all alike.
    """

    def __init__(
        self,
        ratio: Fraction = 0.8,
        *,
        momentum: Fraction = 0.9,
        initial: Fraction | None = 0.9,
        hard_power: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.ratio, self.momentum, self.initial, self.hard_power = ratio, momentum, initial, hard_power
        self.threshold: Tensor
        self.known: Tensor

    def attach(self, network: nn.Module) -> None:
        """Memory for as many classes as the network has."""
        assert isinstance(network, SegmentationNetwork)
        start = 0.0 if self.initial is None else self.initial
        self.register_buffer("threshold", torch.full((network.num_classes,), start))
        # 1 where the threshold means something, 0 where it waits for its class
        self.register_buffer("known", torch.full((network.num_classes,), float(self.initial is not None)))

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Moves the thresholds (Eq. 6), then drops the pixels below them."""
        if self.ratio >= 1:
            return target
        confidence, label = target.hard()
        if self.training:
            self._move(confidence, label if target.valid is None else label.where(target.valid, -1))
        return target._replace(weight=target.weight * (confidence >= self.threshold[label]))

    def figures(self) -> dict[str, Tensor]:
        """The thresholds, (C,)."""
        return {"region_threshold": self.threshold} if self.ratio < 1 else {}

    def _move(self, confidence: Tensor, label: Tensor) -> None:
        counts = sum_over_ranks(confidence_histogram(confidence, label, num_classes=len(self.threshold)))
        sure = self.threshold.where(self.known > 0, 1.0).pow(self.hard_power) if self.hard_power else 1.0
        ratio = self.ratio * sure
        current = histogram_thresholds(counts, ratio)
        predicted = torch.isfinite(current)
        moved = torch.lerp(current, self.threshold, torch.where(self.known > 0, self.momentum, 0.0))
        self.threshold.copy_(torch.where(predicted, moved, self.threshold))
        self.known.copy_(torch.maximum(self.known, predicted.float()))
