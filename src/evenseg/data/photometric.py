"""The strong view of the "color" policy: jitter, grey and blur, batched, on any device.

Brightness, contrast, saturation, hue and grey are one affine map of RGB per image, so an image is
read and written once. What torchvision does in random order with a clamp after each step is done
here without clamps in between, where the order makes no difference; hue turns the chroma plane of
YIQ (as NVIDIA DALI does), not the hexagon of HSV, and so keeps the luma.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.config import StrongConfig
from evenseg.functional.random import slot_uniform

LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as in torchvision and Pillow
_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], dtype=torch.float64)
_RGB = torch.linalg.inv(_YIQ)
_GREY = torch.tensor([LUMA] * 3, dtype=torch.float64)


class ColorDraws(NamedTuple):
    """What happens to the colours of each image; drawn on the host, so that no device is waited for.

    matrix: (B, 3, 3) float32, the linear part. offset: (B,) float32, the share of the image's mean
    luma that is added to every channel. sigma: of the blur in pixels, 0 for none, one per image.
    """

    matrix: Tensor
    offset: Tensor
    sigma: tuple[float, ...]


def draw_color(config: StrongConfig, seed: int, step: int, first_slot: int, batch: int, view: int) -> ColorDraws:
    """The draws of strong view number ``view`` for the ``batch`` global slots from ``first_slot`` on."""
    chance = slot_uniform(seed, step, first_slot, batch, 8, stream=f"strong view {view}")
    jitter = chance[:, 0] < config.probability
    still = torch.zeros((), dtype=torch.float64)

    def factor(column: int, strength: float) -> Tensor:
        drawn = max(0.0, 1 - strength) + (1 + strength - max(0.0, 1 - strength)) * chance[:, column]
        return torch.where(jitter, drawn, still + 1)

    brightness, contrast = factor(1, config.brightness), factor(2, config.contrast)
    saturation = torch.where(chance[:, 5] < config.grey, still, factor(3, config.saturation))
    angle = torch.where(jitter, (2 * chance[:, 4] - 1) * config.hue * 2 * math.pi, still)
    matrix = (brightness * contrast)[:, None, None] * (_saturate(saturation) @ _turn_hue(angle))
    low, high = config.blur_sigma
    sigma = torch.where(chance[:, 6] < config.blur, low + (high - low) * chance[:, 7], still)
    return ColorDraws(matrix.float(), (brightness * (1 - contrast)).float(), tuple(sigma.tolist()))


def _saturate(factor: Tensor) -> Tensor:
    """(B,) factors to (B, 3, 3) blends with the luma: 0 is grey, 1 changes nothing."""
    factor = factor[:, None, None]
    return factor * torch.eye(3, dtype=torch.float64) + (1 - factor) * _GREY


def _turn_hue(angle: Tensor) -> Tensor:
    """(B,) angles in radians to (B, 3, 3) rotations of the chroma plane; luma and greys stay."""
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [zero + 1, zero, zero, zero, cosine, -sine, zero, sine, cosine]
    turned: Tensor = _RGB @ torch.stack(rows, dim=1).view(-1, 3, 3) @ _YIQ
    return turned


def color_view(image: Tensor, draws: ColorDraws) -> Tensor:
    """Apply the draws to a batch.

    Args:
        image: (B, 3, H, W) float in [0, 1].
        draws: for the same B images.

    Returns:
        (B, 3, H, W) in [0, 1] in any memory format; ``image`` is left alone.
    """
    if image.device.type == "cpu" and image.dtype == torch.float32:
        return _with_opencv(image, draws)
    return _with_torch(image, draws)


def _with_opencv(image: Tensor, draws: ColorDraws) -> Tensor:
    """Several times faster than torch on a CPU; equal up to rounding."""
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()  # no copy of channels_last images
    view = np.empty_like(pixels)
    matrices = torch.cat([draws.matrix, torch.zeros(len(image), 3, 1)], dim=2).numpy()
    for source, target, matrix, offset, sigma in zip(
        pixels, view, matrices, draws.offset.tolist(), draws.sigma, strict=True
    ):
        matrix[:, 3] = offset * np.dot(cv2.mean(source)[:3], LUMA)
        cv2.transform(source, matrix, dst=target)
        torch.from_numpy(target).clamp_(0, 1)
        if sigma > 0:
            side = 2 * _radius(sigma, image) + 1
            cv2.GaussianBlur(target, (side, side), sigma, dst=target, borderType=cv2.BORDER_REFLECT_101)
    return torch.from_numpy(view).permute(0, 3, 1, 2)


def _with_torch(image: Tensor, draws: ColorDraws) -> Tensor:
    """On any device, without waiting for it."""
    planes = image.contiguous().flatten(2)
    matrix = to_device(draws.matrix, image.device).to(image.dtype)
    offset = to_device(draws.offset, image.device).to(image.dtype)
    luma = planes.mean(dim=2) @ to_device(torch.tensor(LUMA), image.device).to(image.dtype)
    view = torch.baddbmm((offset * luma)[:, None, None], matrix, planes).clamp_(0, 1).view(image.shape)
    if any(draws.sigma):
        rows = [row for row, sigma in enumerate(draws.sigma) if sigma > 0]
        chosen = to_device(torch.tensor(rows), image.device)
        view[chosen] = _blur(view[chosen], [draws.sigma[row] for row in rows])
    return view


def _radius(sigma: float, image: Tensor) -> int:
    """Where the kernel is cut off, in pixels: beyond 3 ``sigma``, and where reflection has no more to show."""
    return min(math.ceil(3 * sigma), image.shape[2] - 1, image.shape[3] - 1)


def _blur(image: Tensor, sigmas: list[float]) -> Tensor:
    """Separable Gaussian blur of (N, 3, H, W) images, each with its own sigma, reflected at the borders."""
    count, _, height, width = image.shape
    radii = [_radius(sigma, image) for sigma in sigmas]
    widest = max(radii)
    distance = torch.arange(-widest, widest + 1).abs()
    weights = torch.exp(-0.5 * (distance / torch.tensor(sigmas)[:, None]) ** 2)
    weights *= distance <= torch.tensor(radii)[:, None]
    weights = to_device(weights / weights.sum(dim=1, keepdim=True), image.device).to(image.dtype)
    kernel = weights.repeat_interleave(3, dim=0, output_size=3 * count)[:, None]  # one kernel per channel of each image
    planes = F.pad(image, (widest,) * 4, mode="reflect").view(1, 3 * count, height + 2 * widest, width + 2 * widest)
    planes = F.conv2d(planes, kernel[:, :, None, :], groups=3 * count)
    return F.conv2d(planes, kernel[:, :, :, None], groups=3 * count).view(image.shape)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Send a small host tensor without waiting for the device."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
