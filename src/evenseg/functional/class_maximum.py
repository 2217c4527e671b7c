"""The largest confidence with which each class is predicted."""

from __future__ import annotations

import torch
from torch import Tensor


def class_maximum(confidence: Tensor, label: Tensor, *, num_classes: int) -> Tensor:
    """Largest confidence of the pixels of each class.

    Args:
        confidence: of any shape, in [0, 1].
        label: int64 of that shape; anything outside 0..num_classes-1 is left out.
        num_classes: C.

    Returns:
        (C,) float32; -1 for a class that does not occur.

    Source: CorrMatch (Sun et al., CVPR 2024), Section 3.3.
    """
    inside = (label >= 0) & (label < num_classes)
    place = torch.where(inside, label, num_classes).flatten()
    largest = torch.full((num_classes + 1,), -1.0, device=label.device)
    return largest.scatter_reduce_(0, place, confidence.detach().float().flatten(), "amax")[:num_classes]


def moved_threshold(threshold: Tensor, maximum: Tensor, *, momentum: float) -> Tensor:
    """A threshold after a step: momentum t + (1 - momentum) m.

    Args:
        threshold: scalar, for which m is the mean over the classes that occur; or (C,), for which it is the class's
            own maximum, and a class that does not occur keeps its threshold.
        maximum: (C,), see ``class_maximum``.
        momentum: in [0, 1].

    Returns:
        A tensor of the threshold's shape; the threshold where no class occurs.

    Source: CorrMatch, Section 3.3, for the scalar; the form for classes is ours.
    """
    occurs = maximum >= 0
    if threshold.ndim:
        return torch.where(occurs, torch.lerp(maximum, threshold, momentum), threshold)
    count = occurs.sum()
    mean = torch.where(occurs, maximum, 0.0).sum() / count.clamp(min=1)
    return torch.where(count > 0, torch.lerp(mean, threshold, momentum), threshold)
