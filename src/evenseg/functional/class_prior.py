"""Logits and probabilities for other class shares than those they were learned with, and noise by rarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evenseg.planes import as_planes

_SMALLEST_SHARE = 1e-7  # keeps logarithms finite where a running share has come to nothing


def labeled_share(class_frequency: Tensor) -> Tensor:
    """Share of each class of the labeled pixels, (C,) float32 > 0; a class without a pixel counts as one with one."""
    counts = class_frequency.double().clamp(min=1)
    return (counts / counts.sum()).float()


def adjust_logits(logits: Tensor, share: Tensor, *, tau: float = 1.0) -> Tensor:
    """Logit adjustment of a training loss: logits + tau log share; with tau 1 their softmax is the balanced softmax.

    Args:
        logits: (B, C, H, W), with gradient.
        share: (C,) of the classes in what is learned from.
        tau: 0 leaves the logits as they are.

    Returns:
        (B, C, H, W) float32.

    Source: Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021, Eq. 10; Ren et al., "Balanced
    Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, Eq. 3.
    """
    bias = tau * share.detach().float().clamp(min=_SMALLEST_SHARE).log()
    return as_planes(logits) + bias[:, None, None]


def shift_prob(prob: Tensor, bias: Tensor) -> Tensor:
    """Probabilities as if ``bias`` had been added to the logits they are the softmax of.

    Args:
        prob: (B, C, H, W) float32, >= 0.
        bias: (C,), finite.

    Returns:
        (B, C, H, W) float32; each pixel sums to what it summed to before.
    """
    factor = (bias - bias.max()).exp().float()  # 1 at the most
    shifted = prob * factor[:, None, None]
    before, after = prob.sum(dim=1, keepdim=True), shifted.sum(dim=1, keepdim=True)
    return shifted.mul_(before / after.clamp(min=torch.finfo(torch.float32).tiny))


def rarity(share: Tensor) -> Tensor:
    """How rare each class is: log(1 / share) over the largest of them, (C,) float32 in [0, 1]; 0 for a single class.

    Source: Wang et al., "Balancing Logit Variation for Long-Tailed Semantic Segmentation" (BLV), CVPR 2023, Eq. 3.
    """
    information = -share.float().clamp(_SMALLEST_SHARE, 1).log()
    return information / information.max().clamp(min=torch.finfo(torch.float32).tiny)


def vary_logits(logits: Tensor, uniform: Tensor, scale: Tensor, *, sigma: float = 4.0) -> Tensor:
    """Balanced logit variation: adds |clamp(N(0, sigma^2), -1, 1)| times a scale of the class to every logit.

    Args:
        logits: (B, C, H, W), with gradient.
        uniform: (B, C, H, W) in [0, 1), of which the normal numbers are made.
        scale: (C,), see ``rarity``.
        sigma: standard deviation; much above 1 nearly all of the noise is 1.

    Returns:
        (B, C, H, W) float32.

    Source: BLV (see ``rarity``), Section 3.2 and its code.
    """
    # |N(0, 1)| is the square root of 2 times the inverse error function of a uniform number
    noise = torch.erfinv(uniform.float()).mul_(sigma * math.sqrt(2)).clamp_(max=1).mul_(scale.detach()[:, None, None])
    return as_planes(logits) + noise
