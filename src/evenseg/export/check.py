"""Does a written model label images as the trained one does?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from evenseg.data.resize import resize_image
from evenseg.errors import InputError

AGREEMENT = 0.999  # share of pixels with the same label, in each batch
LARGEST = 512  # side of the images that share a batch

Run = Callable[[np.ndarray], np.ndarray]


class Agreement(NamedTuple):
    """pixels: compared. lowest: share with the same label in the worst batch. batches: their shapes (B, H, W)."""

    pixels: int
    lowest: float
    batches: tuple[tuple[int, int, int], ...]


def check(written: Run, trained: Run, images: Sequence[np.ndarray], *, multiple: int, smallest: int) -> Agreement:
    """Compare two models from bytes to logits on images, whole and in batches of several sizes.

    Args:
        written, trained: images (B, 3, H, W) uint8 to logits (B, C, H, W).
        images: (H, W, 3) uint8, at least one.
        multiple: sides that are no multiples of it are padded by the models.
        smallest: side of the images that both take; smaller images are enlarged.

    Raises:
        InputError: the labels agree on fewer than 99.9 % of the pixels of a batch.
    """
    shapes, shares, pixels = [], [], 0
    for batch in batches(images, multiple=multiple, smallest=smallest):
        same = written(batch).argmax(axis=1) == trained(batch).argmax(axis=1)
        shapes.append((len(batch), batch.shape[2], batch.shape[3]))
        shares.append(float(same.mean()))
        pixels += same.size
        if shares[-1] < AGREEMENT:
            count, height, width = shapes[-1]
            raise InputError(
                f"the written model gives {100 * shares[-1]:.3f} % of the pixels the label that the trained one gives "
                f"(batch of {count}, {height}x{width}), less than {100 * AGREEMENT:.1f} %; nothing was written, "
                "choose another --format"
            )
    return Agreement(pixels, min(shares), tuple(shapes))


def batches(images: Sequence[np.ndarray], *, multiple: int, smallest: int) -> Iterator[np.ndarray]:
    """(B, 3, H, W) uint8: the first two images whole; two of a size that needs no padding; three of one that does."""
    images = [image if min(image.shape[:2]) >= smallest else resize_image(image, smallest) for image in images]
    for image in images[:2]:
        yield _stack([image])
    common = [min(min(image.shape[axis] for image in images), LARGEST) for axis in (0, 1)]
    least = -(-smallest // multiple) * multiple
    even = [max(side // multiple * multiple, least) for side in common]
    odd = [even[0] + multiple // 2, even[1] + 1]  # _fit enlarges where the images are smaller
    supply = itertools.cycle(images)
    for count, (rows, columns) in ((2, even), (3, odd)):
        yield _stack([_fit(next(supply), rows, columns) for _ in range(count)])


def _fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The upper left corner, or the whole image enlarged where it is too small."""
    if image.shape[0] < height or image.shape[1] < width:
        image = resize_image(image, (max(image.shape[0], height), max(image.shape[1], width)))
    return image[:height, :width]


def _stack(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
