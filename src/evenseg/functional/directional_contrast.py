"""Contrast with a direction: an embedding is pulled to one positive, which stays, and pushed from other classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.contrast import LOWEST_TEMPERATURE
from evenseg.functional.distributed import sum_over_ranks, world_size

CHUNK = 1 << 22  # pairs that are looked at together: 16 MiB for each float32 matrix of them


def directional_contrast(
    anchor: Tensor,
    positive: Tensor,
    anchor_class: Tensor,
    chosen: Tensor,
    weight: Tensor,
    key: Tensor,
    key_class: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """Mean over chosen anchors i of -weight_i log(p_i / (p_i + sum over keys k of other classes of e_ik)).

    p_i is exp(anchor_i . positive_i / temperature) and e_ik is exp(anchor_i . key_k / temperature), of
    unit-normalised embeddings. The mean is over the chosen anchors of the global batch; one without a negative counts
    with 0. Computed in float32, in chunks of anchors: beside the (N, D) gradient, which is made together with the
    value, the memory is a few matrices of ``CHUNK`` pairs, or of M where M is more.

    Args:
        anchor: (N, D) of any precision, with gradient.
        positive: (N, D), taken without gradient.
        anchor_class: (N,) int64.
        chosen: (N,) bool, the anchors that are pulled.
        weight: (N,) >= 0.
        key: (M, D), taken without gradient.
        key_class: (M,) int64; rows of a negative class are padding and no keys.
        temperature: at least 0.025, below which exponentials leave float32.

    Returns:
        Scalar; a zero connected to the graph where nothing is chosen.

    Raises:
        ValueError: a lower temperature.

    Source: Lai et al., "Semi-supervised Semantic Segmentation with Directional Context-aware Consistency" (CAC), CVPR
    2021, the directional contrastive loss; ``models/model.py`` of its code.
    """
    if temperature < LOWEST_TEMPERATURE:
        raise ValueError(f"temperature: {temperature} is below {LOWEST_TEMPERATURE}")
    everywhere = sum_over_ranks(chosen.sum().float())
    share = weight.detach().float() * chosen * (world_size() / everywhere.clamp(min=1))
    if anchor.device.type == "cpu":  # elsewhere the number of rows that count would have to be waited for
        rows, keys = (torch.from_numpy(np.flatnonzero(each.numpy())) for each in (share, key_class >= 0))
        anchor, positive, anchor_class, share = (each[rows] for each in (anchor, positive, anchor_class, share))
        key, key_class = key[keys], key_class[keys]
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, positive, key = (F.normalize(each.float(), dim=1) for each in (anchor, positive.detach(), key.detach()))
        loss: Tensor = _Directional.apply(anchor, positive, anchor_class, share, key, key_class, temperature)
    return loss


class _Directional(torch.autograd.Function):
    """The sum of the anchors' losses times their share, with the gradient computed along the way."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        positive: Tensor,
        anchor_class: Tensor,
        share: Tensor,
        key: Tensor,
        key_class: Tensor,
        temperature: float,
    ) -> Tensor:
        largest = torch.full((), 1 / temperature, device=anchor.device)
        to_anchor = torch.empty_like(anchor)
        total = anchor.new_zeros(())
        size = max(CHUNK // max(len(key), 1), 1)
        for start in range(0, len(anchor), size):
            rows = slice(start, start + size)
            scaled = anchor[rows] / temperature
            similarity = (scaled * positive[rows]).sum(dim=1) - largest  # all similarities are at most 0
            pull = similarity.exp()
            exponential = torch.addmm(largest, scaled, key.T, beta=-1).exp_()
            exponential.masked_fill_((anchor_class[rows, None] == key_class) | (key_class < 0), 0)
            everything = pull + exponential.sum(dim=1)
            total = total + (share[rows] * (everything.log() - similarity)).sum()
            slope = torch.addmm((pull - everything)[:, None] * positive[rows], exponential, key)
            to_anchor[rows] = slope * (share[rows] / (everything * temperature))[:, None]
        ctx.save_for_backward(to_anchor)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (to_anchor,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * to_anchor, None, None, None, None, None, None
