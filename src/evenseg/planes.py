"""Maps of one plane per class, (B, C, H, W), made and read at the speed of a CPU's vector units.

Going from plane to plane pixel by pixel is slow there, above all where planes are a power of two apart, as at
512 x 512, and so compete for the same places in the cache. Other devices take torch's operators as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 8  # 21 planes of 512 pixels: 344 kB of float32


def as_planes(logits: Tensor) -> Tensor:
    """(B, C, H, W) logits in float32 and contiguous: softmax over channels_last logits is slower on a CPU."""
    if logits.dtype == torch.float32 and logits.is_contiguous():
        return logits
    planes: Tensor = _Planes.apply(logits)
    return planes


def layout_of(value: Tensor) -> torch.memory_format:
    """channels_last or contiguous."""
    interleaved = value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
    return torch.channels_last if interleaved else torch.contiguous_format


def copied(value: Tensor, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    """(B, C, H, W) in another type and layout; itself where it has these."""
    if value.device.type != "cpu" or value.is_contiguous(memory_format=layout):
        return value.to(dtype, memory_format=layout)
    copy = torch.empty(value.shape, dtype=dtype, memory_format=layout)
    copy_rows(copy, value)
    return copy


def copy_rows(target: Tensor, source: Tensor) -> None:
    """``target.copy_(source)`` of (..., H, W), a few rows at a time, which stay in the cache."""
    for into, rows in zip(torch.split(target, ROWS, dim=-2), torch.split(source, ROWS, dim=-2), strict=True):
        into.copy_(rows)


class _Planes(torch.autograd.Function):
    """The gradient comes back in the layout of the logits, in which enlarging is passed through quickest."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.dtype, ctx.layout = logits.dtype, layout_of(logits)
        return copied(logits, torch.float32, torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # narrowed first: doing both at once is several times slower
        return copied(gradients[0].to(ctx.dtype), ctx.dtype, ctx.layout)


def largest_plane(value: Tensor) -> tuple[Tensor, Tensor]:
    """The largest number of each pixel of (B, C, H, W), (B, H, W), and its plane, int64, the first among equals.

    On a CPU without gradient, and the plane of a NaN is the last one.
    """
    classes = value.shape[1]
    if value.device.type != "cpu" or classes > 255:
        largest, plane = value.max(dim=1)  # max, not argmax: several times faster on a CPU
        return largest, plane
    top = value.detach().amax(dim=1, keepdim=True)
    countdown = torch.arange(classes, 0, -1, dtype=torch.uint8).view(-1, 1, 1)
    marked = (value >= top).view(torch.uint8).mul_(countdown).amax(dim=1)  # bytes, for which these are nothing
    return top.squeeze(1), (classes - marked.long()).clamp_(max=classes - 1)
