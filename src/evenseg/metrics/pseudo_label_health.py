"""Whether pseudo-labels are healthy: per class how many there are, how sure, how right.

First sums of one batch, which add up over steps, micro-batches and ranks; then figures of any such sums. All
figures are quotients of sums, so that means of the sums do as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.types import PseudoTarget

SMOOTHING = 1e-4  # share of the uniform distribution in both sides of the divergence


class HealthSums(NamedTuple):
    """Sums over pixels, (C,) each; stacked, they are the (8, C) tensor that ``health_sums`` returns.

    Over the valid pixels that are predicted as class c: predicted: their number. kept: those of weight > 0, the
    pseudo-labels. weight, confidence: sums of these. disagreeing: where the student predicts another class.
    checked: kept ones whose truth is known. right: of these, where the truth is c. true: valid pixels whose truth is
    c, whatever is predicted. NaN where the student's labels or the truth are unknown.
    """

    predicted: Tensor
    kept: Tensor
    weight: Tensor
    confidence: Tensor
    disagreeing: Tensor
    checked: Tensor
    right: Tensor
    true: Tensor


class HealthFigures(NamedTuple):
    """Figures per class, (C,) float64; NaN where there is nothing to divide by, or it is unknown.

    share: of the pseudo-labels, how many are c. kept: of the pixels predicted as c, how many are pseudo-labels.
    weight, confidence: means over the pixels predicted as c. disagreement: how many of these the student sees
    otherwise. precision: how many pseudo-labels c are right. recall: how many pixels of c have the pseudo-label c.
    """

    share: Tensor
    kept: Tensor
    weight: Tensor
    confidence: Tensor
    disagreement: Tensor
    precision: Tensor
    recall: Tensor


def health_sums(target: PseudoTarget, student: Tensor | None = None, truth: Tensor | None = None) -> Tensor:
    """The sums of one batch; nothing waits for the device.

    Args:
        target: what the student is taught, (B, C, H, W).
        student: (B, C, H, W) its logits of the same pixels; None: unknown.
        truth: (B, H, W) int64; values of C and above are unknown.

    Returns:
        (8, C) float32, the rows of ``HealthSums``.
    """
    classes = target.prob.shape[1]
    confidence, label = target.hard()
    valid = torch.ones_like(label, dtype=torch.bool) if target.valid is None else target.valid
    kept = target.weight > 0
    rows = [torch.ones_like(confidence), kept, target.weight, confidence]
    if student is not None:
        rows.append(student.max(dim=1).indices != label)  # max, not argmax: several times faster on a CPU
    if truth is not None:
        rows += [kept & (truth < classes), kept & (truth == label)]
    sums = list(_sums_per_class(torch.where(valid, label, classes), rows, classes))
    unknown = torch.full_like(sums[0], torch.nan)
    if student is None:
        sums.insert(4, unknown)
    if truth is None:
        return torch.stack([*sums, unknown, unknown, unknown])
    known = torch.where(valid, truth.clamp(max=classes), classes)
    return torch.stack([*sums, *_sums_per_class(known, rows[:1], classes)])


def _sums_per_class(label: Tensor, values: list[Tensor], classes: int) -> Tensor:
    """(len(values), C) float32 sums of (B, H, W) values over the pixels of each label; label C is left out."""
    stacked = torch.stack([value.float() for value in values], dim=2)  # (B, H, K, W)
    # first along each row of the image: float32 cannot add ones beyond 2^24, and loses digits long before
    rows = stacked.new_zeros(*stacked.shape[:3], classes + 1)
    rows.scatter_add_(3, label.unsqueeze(2).expand_as(stacked), stacked)
    return rows.sum(dim=(0, 1))[:, :classes]


def health_figures(sums: Tensor) -> HealthFigures:
    """Figures of (8, C) sums, or of their mean over steps and ranks."""
    s = HealthSums(*sums.double())
    return HealthFigures(
        share=s.kept / s.kept.sum(),
        kept=s.kept / s.predicted,
        weight=s.weight / s.predicted,
        confidence=s.confidence / s.predicted,
        disagreement=s.disagreeing / s.predicted,
        precision=s.right / s.checked,
        recall=s.right / s.true,
    )


def mixed_kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """``metrics.distribution.kl_divergence``, KL(p || q), finite also where a class is missing in q.

    Args:
        p, q: (C,) counts or shares, >= 0, of the labels and the pseudo-labels in DARS, Eq. 3. Each is divided by its
            sum and then mixed with 1e-4 (``SMOOTHING``) of the uniform distribution.

    Returns:
        Scalar float64 >= 0; NaN where either is all zero.
    """
    p, q = ((1 - SMOOTHING) * n / n.sum() + SMOOTHING / len(n) for n in (p.double(), q.double()))
    return (p * (p / q).log()).sum()
