"""Into how many subclasses each class is divided, so that all are of about the same size."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

CountRule: TypeAlias = Literal["smallest", "budget"]
Rounding: TypeAlias = Literal["nearest", "ceil", "floor"]


def subclass_counts(
    class_pixels: Tensor, *, rule: CountRule = "smallest", budget: int = 254, rounding: Rounding = "nearest"
) -> Tensor:
    """Number of subclasses of each class: its size over that of a subclass, rounded, and at least 1.

    The smallest class may be so small that there are thousands: whoever uses that rule should look at the sum.

    Args:
        class_pixels: (C,) integers >= 0, pixels (cells) per class, counted where they are clustered.
        rule: "smallest": a subclass is as large as the smallest class that occurs (the paper). "budget": as small a
            whole number of pixels as keeps the sum within ``budget``; also where that divides the smallest class.
        budget: most subclasses of all classes together; 254 fit label maps of 8 bits beside the ignored label.
        rounding: "nearest": up from one half on.

    Returns:
        (C,) int64, 1 for classes without a pixel, otherwise at most the number of pixels.

    Raises:
        ValueError: no vector of integers >= 0, an unknown rule or rounding, or a budget below the number of classes.

    Source: Guan et al., "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation", CVPR 2022,
    Section 3.2; the budget is ours.
    """
    if class_pixels.dim() != 1 or class_pixels.is_floating_point() or not len(class_pixels):
        raise ValueError("the pixels of the classes must be a vector of integers")
    if rounding not in get_args(Rounding) or rule not in get_args(CountRule):
        raise ValueError(f"there is no rule {rule!r} with rounding {rounding!r}")
    pixels = class_pixels.long()
    if int(pixels.min()) < 0:
        raise ValueError("a class cannot have fewer than 0 pixels")
    if int(pixels.max()) == 0:
        return torch.ones_like(pixels)
    if rule == "smallest":
        return _divide(pixels, int(pixels[pixels > 0].min()), rounding)
    if budget < len(pixels):
        raise ValueError(f"a budget of {budget} subclasses is below the number of classes, {len(pixels)}")
    # the sum falls as subclasses grow: at twice the largest class and one more, each class has one
    low, high = 1, 2 * int(pixels.max()) + 1
    while low < high:
        middle = (low + high) // 2
        if int(_divide(pixels, middle, rounding).sum()) <= budget:
            high = middle
        else:
            low = middle + 1
    return _divide(pixels, low, rounding)


def _divide(pixels: Tensor, size: int, rounding: Rounding) -> Tensor:
    """Subclasses of ``size`` pixels >= 1; in whole numbers, which have no rounding errors."""
    added = {"nearest": size // 2, "ceil": size - 1, "floor": 0}[rounding]
    return ((pixels + added) // size).clamp(min=1)
