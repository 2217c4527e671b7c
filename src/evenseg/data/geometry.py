"""The weak view: scale, crop, flip and rotation of a uint8 image and any label maps with it, and a blur of the image.

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

BLUR = 5  # pixels, the side of the kernel in DARS' official code: 1 4 6 4 1 in either direction, for OpenCV a Gaussian


class WeakSpec(NamedTuple):
    """How weak views are drawn.

    crop: height and width of the view in pixels. scale: (low, high), drawn uniformly, or three and
    more (or one) values to choose from. flip: probability of a horizontal flip. rotation: largest
    angle in degrees to either side, applied with ``rotation_probability``. balanced: half of the draws of
    a range lie below 1 and half above, uniform on either side (large-scale jitter). blur: probability of a
    slight blur of the view.
    """

    crop: tuple[int, int]
    scale: tuple[float, ...] = (1.0, 1.0)
    flip: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.0
    balanced: bool = False
    blur: float = 0.0


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
    view = look_through(image, maps, draw_window(image.shape[:2], spec, rng), spec.crop)
    if spec.blur and rng.random() < spec.blur:  # drawn last: what is seen of the image is the same without
        cv2.GaussianBlur(view.image, (BLUR, BLUR), 0, dst=view.image)
    return view


def draw_window(size: tuple[int, ...], spec: WeakSpec, rng: np.random.Generator) -> Window:
    """The window of a view in an image of ``size`` (height, width), uniform over all places.

    In a direction in which the window is larger than the image, it contains the image, anywhere.
    """
    if spec.balanced:
        low, high = (spec.scale[0], 1.0) if rng.random() < 0.5 else (1.0, spec.scale[-1])
        scale = float(rng.uniform(low, high))
    elif len(spec.scale) == 2:
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
        view, (seen, *turned) = _rotate(view, [seen, *views.values()], window.angle, crop)
        views = dict(zip(views, turned, strict=True))
    if window.flip:
        for values in (view, seen, *views.values()):
            cv2.flip(values, 1, dst=values)
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
    return _pad(resized, place, canvas, tuple(round(value) for value in cv2.mean(image)))


def _cut_map(values: np.ndarray, place: _Place, canvas: tuple[int, int]) -> np.ndarray:
    ignored = ignore_value(values.dtype)
    # plain INTER_NEAREST would lie half a pixel off the image
    resized = cv2.resize(values[place.source], place.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return resized if place.size == canvas else _pad(resized, place, canvas, (ignored,))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear; where it shrinks the filter widens, as Pillow's does, so that fine texture does not turn into noise."""
    height, width = size
    if height >= image.shape[0] and width >= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    # three times as fast as OpenCV's INTER_AREA; a copy, as torch wants its pixels side by side and writable
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    shrunk = F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0]
    merged: np.ndarray = cv2.merge([plane.numpy() for plane in shrunk])
    return merged


def _pad(values: np.ndarray, place: _Place, canvas: tuple[int, int], padding: tuple[int, ...]) -> np.ndarray:
    rows, columns = place.target
    top, bottom, left, right = rows.start, canvas[0] - rows.stop, columns.start, canvas[1] - columns.stop
    return cv2.copyMakeBorder(values, top, bottom, left, right, cv2.BORDER_CONSTANT, value=padding)


def _around_rotation(window: Window, crop: tuple[int, int]) -> tuple[tuple[int, int], Window]:
    """The upright canvas that holds a rotated view, and the window that fills it."""
    height, width = crop
    cosine, sine = abs(math.cos(math.radians(window.angle))), abs(math.sin(math.radians(window.angle)))
    more_rows = math.ceil((height * cosine + width * sine - height) / 2)  # on either side
    more_columns = math.ceil((width * cosine + height * sine - width) / 2)
    above, beside = round(more_rows * window.height / height), round(more_columns * window.width / width)
    region = Window(window.top - above, window.left - beside, window.height + 2 * above, window.width + 2 * beside)
    return (height + 2 * more_rows, width + 2 * more_columns), region


def _rotate(
    image: np.ndarray, maps: list[np.ndarray], angle: float, crop: tuple[int, int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The middle of the canvas, of size ``crop``, after a rotation about the centre."""
    (tall, wide), (height, width) = image.shape[:2], crop
    matrix = cv2.getRotationMatrix2D(((wide - 1) / 2, (tall - 1) / 2), angle, 1.0)
    matrix[:, 2] += ((width - wide) / 2, (height - tall) / 2)
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Nearest pixels are found once for all maps: warpAffine would round differently for each dtype.
    (a, b, c), (d, e, f) = cv2.invertAffineTransform(matrix)
    column, row = np.arange(width), np.arange(height)[:, None]
    nearest = np.rint(np.stack([a * column + b * row + c, d * column + e * row + f], axis=-1)).astype(np.int16)
    unused: np.ndarray = np.empty(0, np.uint16)
    return turned, [
        cv2.remap(each, nearest, unused, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) for each in maps
    ]
