"""The EXIF orientation of images: cameras store what the sensor saw and say how to turn it."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin

_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 274, 256, 257


def read_orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, 1..8; unreadable metadata orients nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # struct.error, SyntaxError, ValueError, ... of a damaged block
        return 1


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after turning, of an image of which only the header was read."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # versions of Pillow differ in what `size` means here
        width, height = int(image.tag_v2[_TIFF_WIDTH]), int(image.tag_v2[_TIFF_HEIGHT])
        orientation = image.tag_v2.get(_ORIENTATION, 1)
    else:
        width, height = image.size
        orientation = 1 if image.format == "PNG" else read_orientation(image)  # asking a PNG would decode it
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, ...) pixels as the EXIF orientation asks; contiguous."""
    match orientation:
        case 2:
            array = array[:, ::-1]
        case 3:
            array = array[::-1, ::-1]
        case 4:
            array = array[::-1]
        case 5:
            array = array.swapaxes(0, 1)
        case 6:
            array = np.rot90(array, -1)
        case 7:
            array = array[::-1, ::-1].swapaxes(0, 1)
        case 8:
            array = np.rot90(array)
    return np.ascontiguousarray(array)
