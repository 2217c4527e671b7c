"""Cross-entropy of logits that are enlarged to the size of the label, without ever holding the enlarged map.

The enlarged logits of a hundred classes are the largest tensor of a step, and the loss reads and writes several of
their size. Bilinear enlargement takes two rows of cells for a row of pixels, so that the loss and its gradient can be
computed a band of rows at a time. The result is that of the plain form up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.functional.distributed import global_mean


def enlarged_cross_entropy(
    logits: Tensor, label: Tensor, padded: tuple[int, int], *, ignore_index: int = 255, band: int = 16
) -> Tensor:
    """Mean cross-entropy over the valid pixels of the global batch, of logits enlarged bilinearly.

    Equal to ``cross_entropy(interpolate(logits, padded, mode="bilinear", align_corners=True)[..., :H, :W], label)``.

    Args:
        logits: (B, K, h, w) of cells, of any precision.
        label: (B, H, W) int64 in 0..K-1 or ``ignore_index``.
        padded: the size that the cells cover, at least H x W.
        ignore_index: label of pixels without a class.
        band: rows of pixels at a time; extra memory is about 2 * B * K * band * W * 4 bytes.

    Returns:
        Scalar float32; a zero connected to the graph where no pixel is valid.
    """
    total: Tensor = _EnlargedCrossEntropy.apply(logits, label, padded, ignore_index, band)
    return global_mean(total, (label != ignore_index).sum())


class _EnlargedCrossEntropy(torch.autograd.Function):
    """The sum over pixels. Its gradient is computed on the way, while the softmax of a band is at hand."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, label: Tensor, padded: tuple[int, int], ignore_index: int, band: int
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            total, gradient = _sum_and_gradient(logits, label, padded, ignore_index, band, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(gradient.dtype), None, None, None, None


def _sum_and_gradient(
    logits: Tensor, label: Tensor, padded: tuple[int, int], ignore_index: int, band: int, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    rows = logits.shape[2]
    height, width = label.shape[1:]
    cells = logits.detach().to(torch.float32, memory_format=torch.contiguous_format)
    gradient = torch.zeros_like(cells) if wanted else None
    total = torch.zeros((), device=logits.device)
    down, step = _interpolation(height, rows, padded[0], logits.device), (rows - 1) / max(padded[0] - 1, 1)
    for top in range(0, height, band):
        bottom = min(top + band, height)
        # the rows of cells that these rows of pixels lie between
        first, last = int(top * step), min(int((bottom - 1) * step) + 2, rows)
        own = down[top:bottom, first:last]
        lines = torch.matmul(own, cells[:, :, first:last]).flatten(0, 2).unsqueeze(1)  # (B * K * band, 1, w)
        enlarged = F.interpolate(lines, size=padded[1], mode="linear", align_corners=True)
        enlarged = enlarged.view(*cells.shape[:2], bottom - top, padded[1])[..., :width]
        part = label[:, top:bottom]
        log_prob = F.log_softmax(enlarged, dim=1)
        total += F.nll_loss(log_prob, part, ignore_index=ignore_index, reduction="sum")
        if gradient is not None:
            # rows first: there are fewer of cells, and the other sum is the dearer one
            slope = torch.matmul(own.T, _slope(log_prob, part, ignore_index))
            slope = F.pad(slope, (0, padded[1] - width)).flatten(0, 2).unsqueeze(1)
            shape = (len(slope), 1, cells.shape[3])
            slope = torch.ops.aten.upsample_linear1d_backward(slope, padded[1:], shape, True)
            gradient[:, :, first:last] += slope.view(*cells.shape[:2], last - first, -1)
    return total, None if gradient is None else gradient.to(logits.dtype)


def _slope(log_prob: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """softmax - onehot(label), 0 where ignored, (B, K, band, W); takes the place of ``log_prob``."""
    valid = (label != ignore_index).unsqueeze(1)
    slope = log_prob.exp_().mul_(valid)
    return slope.scatter_add_(1, label.unsqueeze(1).where(valid, 0), -valid.to(slope.dtype))


def _interpolation(pixels: int, cells: int, padded: int, device: torch.device) -> Tensor:
    """(pixels, cells) weights of linear enlargement with aligned corners; two at most in a row are not 0."""
    place = torch.arange(pixels, device=device, dtype=torch.float64) * ((cells - 1) / max(padded - 1, 1))
    distance = (place.unsqueeze(1) - torch.arange(cells, device=device)).abs()
    return (1 - distance).clamp(min=0).float()
