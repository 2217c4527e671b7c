"""From the logits of an image to its predicted classes and confidence codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from evenseg.errors import InputError
from evenseg.functional.confidence_codes import CODES, confidence_codes

VALUES_AT_ONCE = 1 << 20  # logits under way: they stay in the cache of a core

Calibrate = Callable[[Tensor], Tensor]  # (B, C, H, W) logits to calibrated ones


def encode(
    logits: Tensor, size: tuple[int, int], name: str, calibrate: Calibrate | None = None, *, as_prob: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each pixel and how probable it is.

    Never holds more than some rows at full size: logits are enlarged (bilinear), calibrated and passed through the
    softmax, in float32, a band at a time.

    Args:
        logits: (C, h, w) float32.
        size: (H, W) of the image, at least (h, w) in a sensible use.
        name: of the image, for the message.
        calibrate: what makes probabilities out of logits that mean what they say.
        as_prob: they are no logits but numbers in [0, 1], the largest of which is the confidence as it is.

    Returns:
        (H, W) uint8, or uint16 above 255 classes; of equal logits the first class. And (H, W) uint16 codes, see
        ``functional.confidence_codes``.

    Raises:
        InputError: the logits are not finite.
    """
    label = np.empty(size, dtype=np.uint8 if len(logits) <= 255 else np.uint16)
    code = torch.empty(size, dtype=torch.int16)
    for rows, band in _bands(logits, size, calibrate):
        largest, index = band.max(dim=0)
        label[rows] = index.cpu().numpy()
        # the softmax of the largest: 1 / sum of exp(z - largest)
        confidence = largest if as_prob else (band - largest).exp_().sum(dim=0).reciprocal_()
        code[rows] = confidence_codes(confidence)
    codes = code.numpy().view(np.uint16)
    if codes.max(initial=0) >= CODES:
        raise _not_finite(name)
    return label, codes


def class_mass(logits: Tensor, size: tuple[int, int], name: str, calibrate: Calibrate | None = None) -> Tensor:
    """Sum of the probabilities of each class over the pixels, (C,) float64 on the CPU. Arguments as of ``encode``."""
    total = torch.zeros(len(logits), dtype=torch.float64)
    for _, band in _bands(logits, size, calibrate):
        total += band.softmax(dim=0).flatten(1).sum(dim=1, dtype=torch.float64).cpu()
    if not bool(total.isfinite().all()):
        raise _not_finite(name)
    return total


def _bands(logits: Tensor, size: tuple[int, int], calibrate: Calibrate | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the image, and their enlarged and calibrated logits (C, rows, W)."""
    height, width = size
    rows = max(VALUES_AT_ONCE // (len(logits) * width), 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = _enlarged_rows(logits, size, top, bottom)
        yield slice(top, bottom), band if calibrate is None else calibrate(band[None])[0]


def _not_finite(name: str) -> InputError:
    return InputError(
        f"{name}: the network's output is not finite there; train again, or use another --checkpoint or "
        "train.precision=32"
    )


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
