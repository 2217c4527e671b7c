"""How well a network predicts each class, measured on labeled pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.losses import entropy

Indicator = Literal["confidence", "margin", "entropy"]

_BAND = 2**19  # logits that are worked on at a time on a CPU: 2 MiB stay in its cache


def class_confidence(
    logits: Tensor,
    label: Tensor,
    *,
    indicator: Indicator = "confidence",
    reduction: Literal["pixel", "image"] = "pixel",
    ignore_index: int = 255,
    log_prob: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """How well each class is predicted where it truly is, as sums and counts, which add up over ranks.

    With p the softmax of a pixel and g its label, the indicator of the pixel is

    * ``confidence``: p[g], in [0, 1] (Eq. 4);
    * ``margin``: p[g] minus the second largest of p, in [-0.5, 1]; negative where two classes are more
      probable than g. The second largest of a single class is 0 (Eq. 5, whose printed maximum is a slip);
    * ``entropy``: that of p in nats, in [0, log C]; small where the network is sure (Eq. 6).

    Args:
        logits: (B, C, H, W), any precision; computed in float32, without gradient.
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index``; such pixels count nowhere.
        indicator: see above.
        reduction: ``pixel``: over all pixels of a class (the official code); ``image``: over the means of images
            (the printed equations), but only of those that contain the class, as the others have none.
        log_prob: (B, H, W) log p[g] where it is known, with any value at ignored pixels: ``confidence`` then never
            looks at the logits. The other indicators do not use it.

    Returns:
        Sum and count per class, (C,) float32 each: of pixels, or of image means and images. Both are 0 for a
        class that does not occur.

    Raises:
        ValueError: an unknown indicator or reduction.

    On a GPU the order of the additions varies, and the last bits with it, except under
    ``torch.use_deterministic_algorithms(True)``.

    Source: Hu et al., "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning" (AEL),
    NeurIPS 2021, Section 3.3.
    """
    if reduction not in ("pixel", "image"):
        raise ValueError(f"reduction must be pixel or image, not {reduction!r}")
    value = _indicator(logits.detach(), label, indicator, ignore_index, log_prob)
    classes = logits.shape[1]
    # what is ignored is a further class; the comparison costs a CPU three times as much as the clamp
    code = label.clamp(max=classes) if ignore_index >= classes else torch.where(label == ignore_index, classes, label)
    total, count = sum_per_class(value, code, classes), pixels_per_class(code, classes)
    if reduction == "pixel":
        return total.sum(dim=0), count.sum(dim=0).float()
    present = count > 0
    return torch.where(present, total / count, 0.0).sum(dim=0), present.sum(dim=0).float()


def _indicator(logits: Tensor, label: Tensor, indicator: str, ignore_index: int, log_prob: Tensor | None) -> Tensor:
    """(B, H, W) float32 indicator of each pixel; of no meaning where it is ignored."""
    if indicator == "confidence" and log_prob is not None:
        return log_prob.detach().float().exp()
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "confidence": lambda z, g: F.cross_entropy(z, g, ignore_index=ignore_index, reduction="none").neg_().exp_(),
        "margin": lambda z, g: _margin(z.softmax(dim=1), torch.where(g == ignore_index, 0, g)),
        "entropy": lambda z, g: entropy(z.softmax(dim=1)),
    }
    if indicator not in functions:
        raise ValueError(f"indicator must be confidence, margin or entropy, not {indicator!r}")
    return _in_bands(functions[indicator], logits, label)


def _margin(prob: Tensor, label: Tensor) -> Tensor:
    largest = prob.max(dim=1, keepdim=True).indices
    second = prob.scatter(1, largest, 0.0).amax(dim=1)  # on a CPU three times faster than topk(2)
    return prob.gather(1, label[:, None]).squeeze(1) - second


def _in_bands(function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, label: Tensor) -> Tensor:
    """``function`` of logits and label for all pixels: on a CPU for some rows of an image at a time."""
    if logits.device.type != "cpu":
        return function(logits.float(), label)
    _, classes, height, width = logits.shape
    rows = max(_BAND // (classes * width), 1)
    value = torch.empty(label.shape)
    for image in range(len(logits)):
        for top in range(0, height, rows):
            place = (slice(image, image + 1), slice(top, top + rows))
            band = logits[place[0], :, place[1]].to(torch.float32, memory_format=torch.contiguous_format)
            value[place] = function(band, label[place])
    return value


def sum_per_class(value: Tensor, code: Tensor, num_classes: int) -> Tensor:
    """(B, C) sums of (B, H, W) values over the pixels of each code; code C is left out.

    First along each row of the image: float32 loses digits in sums over a million pixels, and a GPU waits less
    for its own additions to one place.
    """
    rows = value.new_zeros(*code.shape[:2], num_classes + 1)
    return rows.scatter_add_(2, code, value).sum(dim=1)[:, :num_classes]


def pixels_per_class(code: Tensor, num_classes: int) -> Tensor:
    """(B, C) int64 number of pixels of each code of (B, H, W); code C is left out."""
    return sum_per_class(torch.ones_like(code, dtype=torch.int32), code, num_classes)  # twice as fast as float32
