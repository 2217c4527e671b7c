"""From the logits of an image to its predicted classes and confidence codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from evenseg.errors import InputError
from evenseg.functional.confidence_codes import CODES, confidence_codes

VALUES_AT_ONCE = 1 << 20  # logits under way: they stay in the cache of a core

Calibrate = Callable[[Tensor], Tensor]  # (B, C, H, W) logits to calibrated ones


def encode(
    logits: Tensor, size: tuple[int, int], name: str, calibrate: Calibrate | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each pixel and how probable it is.

    Never holds more than some rows at full size: logits are enlarged (bilinear), calibrated and passed through the
    softmax, in float32, a band at a time.

    Args:
        logits: (C, h, w) float32.
        size: (H, W) of the image, at least (h, w) in a sensible use.
        name: of the image, for the message.
        calibrate: what makes probabilities out of logits that mean what they say.

    Returns:
        (H, W) uint8, or uint16 above 255 classes; of equal logits the first class. And (H, W) uint16 codes, see
        ``functional.confidence_codes``.

    Raises:
        InputError: the logits are not finite.
    """
    height, width = size
    label = np.empty(size, dtype=np.uint8 if len(logits) <= 255 else np.uint16)
    code = torch.empty(size, dtype=torch.int16)
    rows = max(VALUES_AT_ONCE // (len(logits) * width), 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = _enlarged_rows(logits, size, top, bottom)
        if calibrate is not None:
            band = calibrate(band[None])[0]
        largest, index = band.max(dim=0)
        label[top:bottom] = index.cpu().numpy()
        # the softmax of the largest: 1 / sum of exp(z - largest)
        code[top:bottom] = confidence_codes((band - largest).exp_().sum(dim=0).reciprocal_())
    codes = code.numpy().view(np.uint16)
    if codes.max(initial=0) >= CODES:
        raise InputError(
            f"{name}: the network's output is not finite there; train again, or use another --checkpoint or "
            "train.precision=32"
        )
    return label, codes


def _enlarged_rows(logits: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of the logits at ``size``, bilinear, as ``F.interpolate`` of all of them gives."""
    if tuple(logits.shape[1:]) == size:
        return logits[:, top:bottom]
    above, below, share = _neighbours(logits.shape[1], size[0], torch.arange(top, bottom, device=logits.device))
    band = torch.lerp(logits[:, above], logits[:, below], share[:, None])
    left, right, share = _neighbours(logits.shape[2], size[1], torch.arange(size[1], device=logits.device))
    return torch.lerp(band[:, :, left], band[:, :, right], share)


def _neighbours(short: int, long: int, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For places of a long axis the two of the short one around it, and the share of the second; pixels are areas."""
    exact = ((place + 0.5) * (short / long) - 0.5).clamp(min=0)
    first = exact.long().clamp(max=short - 1)
    return first, (first + 1).clamp(max=short - 1), (exact - first).float()
