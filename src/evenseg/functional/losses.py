"""Pixel losses. All take raw logits of any precision and compute in float32.

Every mean divides by the count of the global batch, so that gradients averaged over ranks are those
of one process (``functional.distributed.global_mean``).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.distributed import global_mean, world_size
from evenseg.planes import as_planes

PixelNormalizer = Literal["image", "batch", "valid"]


def pixel_cross_entropy(logits: Tensor, label: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Cross-entropy of every pixel, (B, H, W) float32; 0 where the label is ``ignore_index``.

    Args:
        logits: (B, C, H, W).
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index``.
    """
    return F.cross_entropy(as_planes(logits), label, ignore_index=ignore_index, reduction="none")


def cross_entropy(logits: Tensor, label: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean cross-entropy over the valid pixels of the global batch.

    Args:
        logits: (B, C, H, W).
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index``.

    Returns:
        Scalar; a zero connected to the graph if no pixel is valid.
    """
    return pixel_mean(pixel_cross_entropy(logits, label, ignore_index=ignore_index), label != ignore_index)


def pixel_mean(pixel: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of the global batch of (B, H, W) pixel losses that are 0 elsewhere."""
    return global_mean(pixel.sum(), valid.sum())


def weighted_cross_entropy(
    logits: Tensor,
    label: Tensor,
    weight: Tensor,
    *,
    ignore_index: int = 255,
    normalize: PixelNormalizer = "image",
    empty_images: Literal["zero", "skip"] = "zero",
) -> Tensor:
    """Cross-entropy with one weight per pixel.

    Args:
        logits: (B, C, H, W).
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index`` (such pixels have weight 0).
        weight: (B, H, W) >= 0.
        normalize: ``image``: weighted mean of each image, then the mean over images (AEL Eq. 12);
            ``batch``: sum over the batch / sum of weights; ``valid``: sum / number of pixels that
            are not ignored.
        empty_images: for ``image``: one without weight counts as 0 (``zero``) or is left out (``skip``, DeS4).

    Returns:
        Scalar; a connected zero if nothing has weight.
    """
    valid = label != ignore_index
    pixel = pixel_cross_entropy(logits, label, ignore_index=ignore_index)
    return weighted_mean(pixel, weight, valid, normalize=normalize, empty_images=empty_images)


def weighted_mean(
    pixel: Tensor,
    weight: Tensor,
    valid: Tensor,
    *,
    normalize: PixelNormalizer,
    empty_images: Literal["zero", "skip"] = "zero",
) -> Tensor:
    """(B, H, W) pixel losses with weights to a scalar; see ``weighted_cross_entropy``. ``valid``: (B, H, W) bool."""
    weight = weight.detach().float() * valid
    weighted = pixel * weight
    if normalize == "batch":
        return global_mean(weighted.sum(), weight.sum())
    if normalize == "valid":
        return global_mean(weighted.sum(), valid.sum())
    if normalize != "image":
        raise ValueError(f"normalize must be image, batch or valid, not {normalize!r}")
    mass = weight.flatten(1).sum(dim=1)
    tiny = torch.finfo(torch.float32).tiny
    image = torch.where(mass > 0, weighted.flatten(1).sum(dim=1) / mass.clamp(min=tiny), 0.0)
    images = (mass > 0).sum() if empty_images == "skip" else torch.full((), len(mass), device=mass.device)
    # `where` above cuts the graph of empty images; the sum keeps the result connected for DDP
    return global_mean(image.sum() + 0.0 * weighted.sum(), images)


def soft_cross_entropy(logits: Tensor, prob: Tensor, weight: Tensor, *, normalize: PixelNormalizer = "batch") -> Tensor:
    """Cross-entropy against a distribution, summed over classes (C3-SemiSeg Eq. 2).

    Args:
        logits: (B, C, H, W).
        prob: (B, C, H, W) target distribution, taken without gradient.
        weight: (B, H, W) >= 0.
        normalize: as in ``weighted_cross_entropy``; ``valid`` divides by all B * H * W pixels.

    Returns:
        Scalar; a connected zero if nothing has weight.
    """
    pixel = -(prob.detach().float() * F.log_softmax(as_planes(logits), dim=1)).sum(dim=1)
    return weighted_mean(pixel, weight, torch.ones_like(weight, dtype=torch.bool), normalize=normalize)


def squared_difference(
    logits: Tensor,
    prob: Tensor,
    weight: Tensor,
    *,
    valid: Tensor | None = None,
    class_reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Squared distance of the predicted to a target distribution, the consistency of Mean Teacher.

    Args:
        logits: (B, C, H, W) of the student.
        prob: (B, C, H, W) target distribution, taken without gradient.
        weight: (B, H, W) >= 0.
        valid: (B, H, W) bool, the pixels the mean is taken over; default all.
        class_reduction: mean or sum over the C classes.

    Returns:
        Scalar: sum of weighted pixel distances / number of valid pixels.
    """
    # one fused operator forward and one backward
    distance = F.mse_loss(as_planes(logits).softmax(dim=1), prob.detach().float(), reduction="none")
    pixel = distance.mean(dim=1) if class_reduction == "mean" else distance.sum(dim=1)
    count = torch.full((), weight.numel(), device=weight.device) if valid is None else valid.sum()
    return global_mean((pixel * weight.detach()).sum(), count)


def focal_loss(logits: Tensor, label: Tensor, *, gamma: float = 2.0, ignore_index: int = 255) -> Tensor:
    """Mean of (1 - p)^gamma * cross-entropy over valid pixels, p the probability of the label.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4 without alpha.
    """
    pixel = pixel_cross_entropy(logits, label, ignore_index=ignore_index)
    return focal_mean(pixel, label != ignore_index, gamma=gamma)


def focal_mean(pixel: Tensor, valid: Tensor, *, gamma: float) -> Tensor:
    """``focal_loss`` of (B, H, W) cross-entropies that are 0 where not ``valid``."""
    focus = (-torch.expm1(-pixel)).clamp(min=0).pow(gamma)
    return pixel_mean(focus * pixel, valid)


def ohem_cross_entropy(
    logits: Tensor, label: Tensor, *, threshold: float = 0.7, min_kept: int = 100_000, ignore_index: int = 255
) -> Tensor:
    """Cross-entropy over hard pixels only (online hard example mining).

    A valid pixel is kept if the probability of its label is at most ``threshold``, or if it is among
    the ``min_kept / B`` least probable of its image; the minimum is per image, so that the choice
    does not depend on the number of ranks.

    Args:
        logits: (B, C, H, W).
        label: (B, H, W) int64 in 0..C-1 or ``ignore_index``.
        threshold: probability in [0, 1].
        min_kept: pixels kept at least in a batch, shared evenly among its images.

    Returns:
        Scalar mean over the kept pixels; a connected zero if there is none.

    Source: Shrivastava et al., CVPR 2016; thresholds as in the semi-supervised baselines (0.7, 100k).
    """
    pixel = pixel_cross_entropy(logits, label, ignore_index=ignore_index)
    return ohem_mean(pixel, label != ignore_index, threshold=threshold, min_kept=min_kept)


def ohem_mean(pixel: Tensor, valid: Tensor, *, threshold: float, min_kept: int) -> Tensor:
    """``ohem_cross_entropy`` of (B, H, W) cross-entropies."""
    flat = torch.where(valid, pixel.detach(), -1.0).flatten(1)  # larger cross-entropy = smaller probability
    batch, pixels = flat.shape
    minimum = min(max(min_kept // (batch * world_size()), 1), pixels)
    limit = -math.log(max(threshold, 1e-12))
    hardest = flat.kthvalue(pixels - minimum + 1, dim=1, keepdim=True).values
    kept = ((flat >= hardest.clamp(max=limit)) & valid.flatten(1)).view_as(pixel)
    return global_mean((pixel * kept).sum(), kept.sum())


def entropy(prob: Tensor, *, dim: int = 1) -> Tensor:
    """Shannon entropy in nats along ``dim``, with 0 log 0 = 0; float32, ``dim`` removed."""
    return torch.special.entr(prob.float()).sum(dim=dim)
