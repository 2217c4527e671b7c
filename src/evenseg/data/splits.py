"""Which images are labeled: a draw that every machine repeats, and fingerprints of lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from evenseg.errors import InputError
from evenseg.functional.random import key

# An image shows a class, for the purpose of covering it, if it holds at least this part of the
# mean number of pixels of the images with that class: a few stray pixels teach nothing.
_SUBSTANTIAL = 0.1

_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|\d+\s*/\s*\d+", re.IGNORECASE)


def is_amount(labeled: str | int | float) -> bool:
    """Whether ``data.labeled`` is a fraction or count (``1/16``, 0.0625, 24), and not a path."""
    return not isinstance(labeled, str) or _NUMBER.fullmatch(labeled.strip()) is not None


def labeled_count(amount: str | int | float, total: int) -> int:
    """Number of labeled images out of ``total``.

    Args:
        amount: an integer is a count; a ratio, or a number with a decimal point, is a fraction,
            rounded half up.
        total: number of images to draw from.

    Raises:
        InputError: fewer than one image or more than there are.
    """
    text = str(amount).strip()
    try:
        value = Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError):  # "1/0", nan, inf
        raise InputError(f"data.labeled: {text} is no fraction or count; write 1/16, 0.0625 or 24") from None
    if text.isdigit():
        if not 1 <= value <= total:
            raise InputError(f"data.labeled: {text} images cannot be drawn from {total}; choose 1 to {total}")
        return int(value)
    if not 0 < value <= 1:
        raise InputError(
            f"data.labeled: the fraction {text} is not in (0, 1]; write 1/16, 0.0625 or a count such as 24"
        )
    count = int(value * total + Fraction(1, 2))
    if count == 0:
        raise InputError(
            f"data.labeled: {text} of {total} images is less than one; choose a larger fraction or a count"
        )
    return count


def draw(names: Sequence[str], counts: np.ndarray, amount: int, *, fold: int) -> list[int]:
    """Draw the labeled images of a fold, so that every class is shown where that is possible.

    Images come in an order that depends on fold and name alone. Ahead of it, for each class from
    the one in the fewest images on, moves the first image that shows it, unless one moved
    before does. The draw is the front of that order. So it does not depend on the order of
    ``names`` or on the machine, and the draws of one fold are nested. Only where the images moved
    ahead would not all fit, fewer that show more classes each take their place.

    Args:
        names: n distinct names.
        counts: (n, C) int64 pixels of each class in each image.
        amount: number of images to draw, at most n.
        fold: which of the possible draws.

    Returns:
        Positions of the drawn images, sorted by name.
    """
    shuffled = sorted(range(len(names)), key=lambda index: (key("labeled split", fold, names[index]), names[index]))
    images_with = np.maximum((counts > 0).sum(axis=0), 1)
    shows = (counts > 0) & (counts >= _SUBSTANTIAL * counts.sum(axis=0) / images_with)
    ahead = _rarest_first(shuffled, shows)
    if len(ahead) > amount:
        ahead = _most_classes_first(shuffled, shows)
    drawn = list(dict.fromkeys([*ahead, *shuffled]))[:amount]
    return sorted(drawn, key=lambda index: names[index])


def _rarest_first(order: Sequence[int], shows: np.ndarray) -> list[int]:
    chosen: list[int] = []
    for label in np.argsort(shows.sum(axis=0), kind="stable"):
        if not shows[chosen, label].any():
            chosen += [index for index in order if shows[index, label]][:1]
    return chosen


def _most_classes_first(order: Sequence[int], shows: np.ndarray) -> list[int]:
    """Greedy cover; among images that add as many classes, the first in order."""
    chosen: list[int] = []
    ordered = shows[list(order)]
    missing = shows.any(axis=0)
    while missing.any():
        best = int((ordered & missing).sum(axis=1).argmax())
        chosen.append(order[best])
        missing &= ~ordered[best]
    return chosen


def withhold(names: Sequence[str], counts: np.ndarray, amount: int, *, fold: int) -> list[int]:
    """Choose labeled images that training does not see, so that pseudo-labels can be held against their labels.

    Images come in an order that depends on fold and name alone. Whatever would take the last image of
    a class away is passed over, unless there are not enough others.

    Args:
        names: n distinct names.
        counts: (n, C) int64 pixels of each class in each image.
        amount: number of images to withhold.
        fold: which of the possible choices.

    Returns:
        Positions of the chosen images, sorted by name.

    Raises:
        InputError: no labeled image would be left.
    """
    if amount >= len(names):
        raise InputError(
            f"health.holdout: withholding {amount} of {len(names)} labeled images leaves none to train on; "
            f"choose at most {len(names) - 1}, or label more images"
        )
    shuffled = sorted(range(len(names)), key=lambda index: (key("holdout", fold, names[index]), names[index]))
    shows = counts > 0
    left = shows.sum(axis=0)
    chosen: list[int] = []
    for index in shuffled:
        if len(chosen) < amount and (left > shows[index]).all(where=shows[index]):
            chosen.append(index)
            left = left - shows[index]
    chosen = list(dict.fromkeys([*chosen, *shuffled]))[:amount]
    return sorted(chosen, key=lambda index: names[index])


def fingerprint(images: Iterable[str]) -> str:
    """SHA-256 of a set of images: of their names in sorted order, each ended by a newline.

    Independent of the order of a list and of where the data lie; names are paths relative to the
    root with forward slashes, see ``build``.
    """
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(images)).encode()).hexdigest()


def missing_class_warnings(names: Sequence[str], counts: np.ndarray) -> list[str]:
    """A warning that names the classes without a single labeled pixel. counts: (n, C) pixels."""
    missing = [name for name, pixels in zip(names, counts.sum(axis=0), strict=True) if pixels == 0]
    if not missing:
        return []
    which = f"class {missing[0]}" if len(missing) == 1 else f"classes {', '.join(missing)}"
    return [f"no labeled image shows the {which}; what is never labeled cannot be learned"]
