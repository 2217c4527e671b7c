"""Which classes are rare, and how uneven a data set is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TAIL_FACTOR = 5  # a tail class has less than 1/5 of the uniform share of the labeled pixels


class TailClasses(NamedTuple):
    """The rare classes. names: in class order. rule: the words that go into the result."""

    names: tuple[str, ...]
    rule: str


class Imbalance(NamedTuple):
    """How uneven the labeled pixels are.

    share: (C,) float64, sums to 1 (all 0 without any pixel). ratio: most to least frequent of the
    classes that occur; 1 where fewer than two do. missing: names of the classes without a pixel.
    """

    share: NDArray[np.float64]
    ratio: float
    missing: tuple[str, ...]


def tail_classes(
    names: Sequence[str], frequency: NDArray[np.int64], listed: Sequence[str] | None = None
) -> TailClasses:
    """The tail classes of a data set: its own list, else the classes rare among the labeled pixels.

    Args:
        names: C class names.
        frequency: (C,) labeled pixels per class.
        listed: the data set's list (``tail`` of ``classes.json``); an empty one says there is no tail.

    Returns:
        Names in class order and the rule that chose them.

    Raises:
        ValueError: a listed name is no class.
    """
    if listed is not None:
        unknown = [name for name in listed if name not in names]
        if unknown:
            raise ValueError(f"tail class {unknown[0]!r} is not among the classes")
        return TailClasses(tuple(name for name in names if name in listed), "listed by the data set")
    # In whole numbers: pixels / total < 1 / (5 C)
    scaled = [int(pixels) * TAIL_FACTOR * len(names) for pixels in frequency]
    total = sum(int(pixels) for pixels in frequency)
    tail = tuple(name for name, pixels in zip(names, scaled, strict=True) if pixels < total)
    return TailClasses(tail, f"less than 1/{TAIL_FACTOR} of the uniform share (1/{len(names)}) of the labeled pixels")


def imbalance(names: Sequence[str], frequency: NDArray[np.int64]) -> Imbalance:
    """Shares, ratio and missing classes of (C,) labeled pixels per class."""
    pixels = np.asarray(frequency, dtype=np.float64)
    occurring = pixels[pixels > 0]
    return Imbalance(
        share=pixels / max(pixels.sum(), 1.0),
        ratio=float(occurring.max() / occurring.min()) if occurring.size else 1.0,
        missing=tuple(name for name, count in zip(names, pixels, strict=True) if count == 0),
    )


def coefficient_of_variation(frequency: Sequence[int] | NDArray[np.int64]) -> float:
    """Standard deviation of (C,) pixels per class over their mean, which is above 0; NaN without a pixel."""
    pixels = np.asarray(frequency, dtype=np.float64)
    return float(pixels.std() / pixels.mean()) if pixels.sum() else math.nan
