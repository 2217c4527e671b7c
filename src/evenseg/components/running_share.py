"""Running shares of the classes in what the teacher or the student says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.functional.class_confidence import pixels_per_class
from evenseg.functional.distributed import sum_over_ranks
from evenseg.types import PseudoTarget


class RunningShare(nn.Module):
    """A moving average of class shares, from those of the labeled pixels on.

    Args:
        start: (C,) shares to start from.
        momentum: share of the old value that a step keeps.
    """

    value: Tensor

    def __init__(self, start: Tensor, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", start.float().clone())

    @torch.no_grad()
    def move(self, mass: Tensor) -> None:
        """Towards the shares of (C,) ``mass``, of this rank's part of the batch; nowhere if all of it is 0."""
        mass = sum_over_ranks(mass.float())
        total = mass.sum()
        share = torch.where(total > 0, mass / total.clamp(min=1e-12), self.value)
        # assigned in place, so that the buffer stays the one that is saved and guarded
        self.value.copy_(torch.lerp(share, self.value, self.momentum))


def prob_mass(prob: Tensor, valid: Tensor | None) -> Tensor:
    """(C,) sum of the (B, C, H, W) probabilities over the ``valid`` (B, H, W) pixels; None: all."""
    return (prob if valid is None else prob * valid.unsqueeze(1)).sum(dim=(0, 2, 3))


def label_mass(target: PseudoTarget) -> Tensor:
    """(C,) number of valid pixels by predicted class."""
    classes = target.prob.shape[1]
    label = target.label if target.valid is None else target.label.where(target.valid, classes)
    return pixels_per_class(label, classes).sum(dim=0)
