"""The weak view: scale, crop, flip and rotation of a uint8 image and any label maps with it.

The crop comes first: of the source only the window that will be seen is touched, and it is resized
once. Scaling the whole image and cropping afterwards gives the same view at several times the cost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F


class WeakSpec(NamedTuple):
    """How weak views are drawn.

    crop: height and width of the view in pixels. scale: (low, high), drawn uniformly, or three and
    more (or one) values to choose from. flip: probability of a horizontal flip. rotation: largest
    angle in degrees to either side, applied with ``rotation_probability``.
    """

    crop: tuple[int, int]
    scale: tuple[float, ...] = (1.0, 1.0)
    flip: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.0


class WeakView(NamedTuple):
    """image: (h, w, 3) uint8. maps: (h, w) each, in their own dtypes. valid: (h, w) bool, False beyond the image."""

    image: np.ndarray
    maps: dict[str, np.ndarray]
    valid: np.ndarray


class Window(NamedTuple):
    """A rectangle of source pixels, which may reach beyond the image, and what becomes of it.

    angle: degrees, anticlockwise. flip: mirrored left to right.
    """

    top: int
    left: int
    height: int
    width: int
    angle: float = 0.0
    flip: bool = False


def weak_view(image: np.ndarray, maps: dict[str, np.ndarray], rng: np.random.Generator, spec: WeakSpec) -> WeakView:
    """A random view of an image and of the label maps that lie on it.

    Args:
        image: (H, W, 3) uint8.
        maps: (H, W) integer maps by name.
        rng: the numbers of this draw.
        spec: what may be drawn.

    Returns:
        Views of size ``spec.crop``. Beyond the image they show its mean colour and, in the maps,
        the ignore value of their dtype (see ``ignore_value``).
    """
    return look_through(image, maps, draw_window(image.shape[:2], spec, rng), spec.crop)


def draw_window(size: tuple[int, ...], spec: WeakSpec, rng: np.random.Generator) -> Window:
    """The window of a view in an image of ``size`` (height, width), uniform over all places.

    In a direction in which the window is larger than the image, it contains the image, anywhere.
    """
    if len(spec.scale) == 2:
        scale = float(rng.uniform(*spec.scale))
    else:
        scale = spec.scale[int(rng.integers(len(spec.scale)))]
    height, width = (max(1, round(length / scale)) for length in spec.crop)
    top, left = (_offset(have, want, rng) for have, want in zip(size, (height, width), strict=True))
    flip = bool(rng.random() < spec.flip)
    angle = 0.0
    if spec.rotation and rng.random() < spec.rotation_probability:
        angle = float(rng.uniform(-spec.rotation, spec.rotation))
    return Window(top, left, height, width, angle, flip)


def _offset(have: int, want: int, rng: np.random.Generator) -> int:
    slack = have - want
    return int(rng.integers(min(slack, 0), max(slack, 0), endpoint=True))


def look_through(image: np.ndarray, maps: dict[str, np.ndarray], window: Window, crop: tuple[int, int]) -> WeakView:
    """The view of size ``crop`` (height, width) through a window. Shapes and padding as in ``weak_view``.

    A rotated view is cut from a larger upright one, so that its corners show what the image has there.
    """
    canvas, region = _around_rotation(window, crop) if window.angle else (crop, window)
    place = _place(region, image.shape[:2], canvas)
    view = _cut_image(image, place, canvas)
    views = {name: _cut_map(values, place, canvas) for name, values in maps.items()}
    seen: np.ndarray = np.zeros(canvas, np.uint8)
    seen[place.target] = 1
    if window.angle:
        view = _rotate(view, window.angle, crop, cv2.INTER_LINEAR)
        views = {name: _rotate(values, window.angle, crop, cv2.INTER_NEAREST) for name, values in views.items()}
        seen = _rotate(seen, window.angle, crop, cv2.INTER_NEAREST)
    if window.flip:
        view = cv2.flip(view, 1)
        views = {name: cv2.flip(values, 1) for name, values in views.items()}
        seen = cv2.flip(seen, 1)
    return WeakView(view, views, seen.view(bool))


def ignore_value(dtype: np.dtype) -> int:
    """What a label map says where it knows nothing: 255 (uint8), 65535 (uint16), -1 (int8, int16, int32).

    Raises:
        TypeError: a dtype that label maps cannot have.
    """
    if dtype.name not in _IGNORE_VALUES:
        raise TypeError(f"a label map is one of {', '.join(_IGNORE_VALUES)}, not {dtype.name}")
    return _IGNORE_VALUES[dtype.name]


_IGNORE_VALUES = {"uint8": 255, "uint16": 65535, "int8": -1, "int16": -1, "int32": -1}


class _Place(NamedTuple):
    """Which rows and columns of the source are seen, and which of the canvas they fill."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    size: tuple[int, int]  # height and width on the canvas


def _place(window: Window, size: tuple[int, ...], canvas: tuple[int, int]) -> _Place:
    rows, target_rows = _overlap(window.top, window.height, size[0], canvas[0])
    columns, target_columns = _overlap(window.left, window.width, size[1], canvas[1])
    filled = (target_rows.stop - target_rows.start, target_columns.stop - target_columns.start)
    return _Place((rows, columns), (target_rows, target_columns), filled)


def _overlap(first: int, length: int, have: int, want: int) -> tuple[slice, slice]:
    """Along one axis: the pixels of the image inside the window, and where they lie among ``want`` canvas pixels."""
    start, stop = max(first, 0), min(first + length, have)
    low = min(round((start - first) * want / length), want - 1)
    high = max(round((stop - first) * want / length), low + 1)
    return slice(start, stop), slice(low, high)


def _cut_image(image: np.ndarray, place: _Place, canvas: tuple[int, int]) -> np.ndarray:
    resized = _resize(image[place.source], place.size)
    if place.size == canvas:
        return resized
    result = np.empty((*canvas, 3), np.uint8)
    result[...] = [round(value) for value in cv2.mean(image)[:3]]
    result[place.target] = resized
    return result


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear; where it shrinks the filter widens with the pixels, as Pillow's does, lest fine texture turns to noise."""
    height, width = size
    if height >= image.shape[0] and width >= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    # twice as fast as OpenCV's INTER_AREA, if the pixels lie side by side
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    shrunk = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(shrunk[0].permute(1, 2, 0).numpy())


def _cut_map(values: np.ndarray, place: _Place, canvas: tuple[int, int]) -> np.ndarray:
    ignored = ignore_value(values.dtype)
    # plain INTER_NEAREST would lie half a pixel off the image
    resized = cv2.resize(values[place.source], place.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if place.size == canvas:
        return resized
    result = np.full(canvas, ignored, values.dtype)
    result[place.target] = resized
    return result


def _around_rotation(window: Window, crop: tuple[int, int]) -> tuple[tuple[int, int], Window]:
    """The upright canvas that holds a rotated view, and the window that fills it."""
    height, width = crop
    cosine, sine = abs(math.cos(math.radians(window.angle))), abs(math.sin(math.radians(window.angle)))
    tall, wide = math.ceil(height * cosine + width * sine), math.ceil(width * cosine + height * sine)
    more_rows = round((tall / height - 1) * window.height / 2)
    more_columns = round((wide / width - 1) * window.width / 2)
    region = Window(
        window.top - more_rows,
        window.left - more_columns,
        window.height + 2 * more_rows,
        window.width + 2 * more_columns,
    )
    return (tall, wide), region


def _rotate(values: np.ndarray, angle: float, crop: tuple[int, int], interpolation: int) -> np.ndarray:
    """The middle of the canvas, of size ``crop``, after a rotation about the centre."""
    (tall, wide), (height, width) = values.shape[:2], crop
    matrix = cv2.getRotationMatrix2D(((wide - 1) / 2, (tall - 1) / 2), angle, 1.0)
    matrix[:, 2] += ((width - wide) / 2, (height - tall) / 2)
    return cv2.warpAffine(values, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
