"""Statistics per class."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.class_confidence import Indicator, class_confidence, pixels_per_class

__all__ = [
    "Indicator",
    "class_balance_rate",
    "class_confidence",
    "class_frequency",
    "class_presence",
    "inverse_frequency_weight",
    "sampling_probability",
    "sampling_rate",
]


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


def class_balance_rate(counts: Tensor) -> Tensor:
    """How even sizes are: 1 - their standard deviation over that of all in one class, which is 1 - CV / sqrt(C - 1).

    CV is the coefficient of variation, standard deviation over mean. Rates are comparable at equal C only: at the same
    CV, that of more classes is nearer to 1.

    Args:
        counts: (C,) sizes >= 0, of classes or subclasses.

    Returns:
        Scalar float32 in [0, 1]: 1 for equal sizes or a single class, 0 if one of several has everything, NaN if all
        of several are 0.

    Source: USRN (Guan et al., CVPR 2022), Eq. 9.
    """
    if len(counts) == 1:
        return torch.ones((), device=counts.device)
    share = counts.double() / counts.sum()
    return (1 - share.std(correction=0) * len(counts) / (len(counts) - 1) ** 0.5).float()


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


def class_presence(label: Tensor, num_classes: int, *, min_ratio: float, valid: Tensor | None = None) -> Tensor:
    """Which classes an image contains to some extent: what AEL's presence bank remembers.

    Args:
        label: (B, H, W) integers >= 0; values of ``num_classes`` and above (255, say) are of no class.
        num_classes: C.
        min_ratio: smallest share of the image's H * W pixels, in [0, 1]; also one pixel at least.
        valid: (B, H, W) bool, pixels that may count; None: all. The share is of H * W all the same.

    Returns:
        (B, C) bool on the device of ``label``.

    Source: AEL (see ``class_confidence``), Table 7; ``update_cutmix_bank`` of its code.
    """
    code = label.long().clamp(max=num_classes)
    if valid is not None:
        code = torch.where(valid, code, num_classes)
    count = pixels_per_class(code, num_classes)
    height, width = label.shape[1:]
    return (count >= min_ratio * height * width) & (count > 0)


def sampling_probability(
    score: Tensor, *, temperature: float = 1.0, power: float = 1.0, allowed: Tensor | None = None
) -> Tensor:
    """Probability of each class to be chosen: softmax(score^power / temperature).

    With scores in [0, 1] and a temperature of 1 no class is more than e times as probable as another.

    Args:
        score: (C,) how badly a class is predicted, 1 - confidence; negative values count as 0.
        temperature: > 0; below 1 the choice is sharper.
        power: > 0; AEL's official code has 0.5 for Copy-Paste.
        allowed: (C,) bool, the classes that may be chosen; None: all.

    Returns:
        (C,) float32, sums to 1, exactly 0 where not allowed.

    Raises:
        ValueError: temperature or power is not positive; no class is allowed (checked on a CPU only, since on
            a GPU the check would wait for the device: the result is then NaN).

    Source: AEL (see ``class_confidence``), Eq. 9.
    """
    if temperature <= 0 or power <= 0:
        raise ValueError(f"temperature and power must be above 0, not {temperature} and {power}")
    strength = score.float().clamp(min=0).pow(power) / temperature
    if allowed is None:
        return strength.softmax(dim=0)
    if allowed.device.type == "cpu" and not allowed.numpy().any():
        raise ValueError("no class is allowed")
    return torch.where(allowed, strength, -torch.inf).softmax(dim=0)


def sampling_rate(score: Tensor, *, beta: float = 1.0, known: Tensor | None = None) -> Tensor:
    """Share of its pixels that a class keeps in the loss: (score / largest score)^beta.

    Args:
        score: (C,) how badly a class is predicted, 1 - confidence; negative values count as 0.
        beta: >= 0; 0 keeps all pixels.
        known: (C,) bool, classes whose score has been measured; None: all. The others keep all pixels and
            do not set the largest score.

    Returns:
        (C,) float32 in [0, 1], 1 for the worst class; all 1 where no score is above 0.

    Source: AEL (see ``class_confidence``), Eq. 10.
    """
    score = score.float().clamp(min=0)
    measured = torch.ones_like(score, dtype=torch.bool) if known is None else known
    largest = torch.where(measured, score, 0.0).amax()
    counts = measured & (largest > torch.finfo(torch.float32).tiny)
    return torch.where(counts, (score / torch.where(counts, largest, 1.0)).pow(beta), 1.0)
