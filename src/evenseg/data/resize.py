"""``data.resize``: one size for image and label before anything else sees them."""

from __future__ import annotations

import cv2
import numpy as np

# [height, width], the length of the short side, or None: as the file has it.
Resize = tuple[int, int] | int | None


def resized_shape(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Height and width after ``data.resize``; a short side keeps the aspect ratio, rounding half up."""
    if resize is None:
        return height, width
    if not isinstance(resize, int):
        return resize[0], resize[1]
    short, long = sorted((height, width))
    long = (2 * long * resize + short) // (2 * short)
    return (resize, long) if height <= width else (long, resize)


def resize_image(image: np.ndarray, resize: Resize) -> np.ndarray:
    """(H, W, 3) uint8 to its new size: area means where it shrinks, linear interpolation where it grows."""
    height, width = resized_shape(image.shape[0], image.shape[1], resize)
    if (height, width) == image.shape[:2]:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, resize: Resize) -> np.ndarray:
    """(H, W) uint8 or uint16 to its new size: the nearest pixel centre, no new values."""
    height, width = resized_shape(label.shape[0], label.shape[1], resize)
    if (height, width) == label.shape:
        return label
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
