"""A confidence threshold that follows the surest pixels of the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.functional.class_maximum import class_maximum, moved_threshold
from evenseg.functional.distributed import max_over_ranks
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import Fraction, NetworkOutput, PseudoTarget, Step


class AdaptiveThreshold(Component):
    """Weight 0 below a threshold that moves towards the largest confidence of the predicted classes.

    In every batch the largest confidence with which each class is predicted is found, over the pixels inside the images
    of all processes; the threshold moves towards the mean of those of the classes that are predicted, and selects the
    pixels of the same batch. Micro-batches move it one by one. In eval mode it stands still.

    Source: Sun et al., "CorrMatch: Label Propagation via Correlation Matching for Semi-Supervised Semantic
    Segmentation", CVPR 2024, https://arxiv.org/abs/2306.04300, Section 3.3: the threshold alone, written from the
    formula. One threshold per class: ours.

    Args:
        momentum: share of the threshold that a step keeps.
        initial: what it starts from.
        per_class: every class has a threshold, which follows its own largest confidence.
    """

    threshold: Tensor

    def __init__(self, *, momentum: Fraction = 0.999, initial: Fraction = 0.85, per_class: bool = False) -> None:
        super().__init__()
        self.momentum, self.initial, self.per_class = momentum, initial, per_class

    def attach(self, network: nn.Module) -> None:
        """Memory for one threshold, or for as many as the network has classes."""
        assert isinstance(network, SegmentationNetwork)
        self.register_buffer("threshold", torch.full((network.num_classes,) if self.per_class else (), self.initial))

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Moves the threshold, then drops the pixels below it."""
        confidence, label = target.hard()
        if self.training:
            inside = label if target.valid is None else label.where(target.valid, -1)
            maximum = max_over_ranks(class_maximum(confidence, inside, num_classes=target.prob.shape[1]))
            self.threshold.copy_(moved_threshold(self.threshold, maximum, momentum=self.momentum))
        limit = self.threshold[label] if self.per_class else self.threshold
        return target._replace(weight=target.weight * (confidence >= limit))

    def figures(self) -> dict[str, Tensor]:
        """The threshold, or one for each class."""
        return {"adaptive_threshold": self.threshold}
