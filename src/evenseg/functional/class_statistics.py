"""Statistics per class."""

from __future__ import annotations

import torch
from torch import Tensor


def class_frequency(label: Tensor, num_classes: int, *, ignore_index: int = 255) -> Tensor:
    """Number of pixels of each class.

    Args:
        label: integer tensor of any shape, values 0..num_classes-1 or ``ignore_index``.

    Returns:
        (num_classes,) int64.

    Raises:
        ValueError: a label is neither a class nor ``ignore_index`` (checked on the CPU only, since
            on a GPU the check would wait for the device).
    """
    # ignored pixels are counted in one further bin: a boolean selection would be several times slower
    flat = label.flatten().long()
    if flat.device.type == "cpu" and bool(((flat < 0) | ((flat >= num_classes) & (flat != ignore_index))).any()):
        raise ValueError(f"labels must be 0..{num_classes - 1} or {ignore_index}")
    flat = torch.where(flat == ignore_index, num_classes, flat)
    if flat.device.type == "cpu":
        return torch.bincount(flat, minlength=num_classes + 1)[:num_classes]
    # bincount looks at the largest value on the host; scatter_add does not
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=flat.device)
    return counts.scatter_add_(0, flat, torch.ones_like(flat))[:num_classes]


def inverse_frequency_weight(frequency: Tensor, *, power: float = 0.5) -> Tensor:
    """Class weights that fall with frequency: (mean frequency / frequency)^power, scaled to mean 1.

    Args:
        frequency: (C,) pixel counts; classes without a pixel get weight 1 before scaling.
        power: 0 gives equal weights, 1 the inverse frequency.

    Returns:
        (C,) float32 with mean 1 over the classes that occur.
    """
    counts = frequency.double()
    present = counts > 0
    weight = torch.where(present, (counts.sum() / counts.clamp(min=1)).pow(power), 0.0)
    mean = weight.sum() / present.sum().clamp(min=1)
    return torch.where(present, weight / mean, 1.0).float()
