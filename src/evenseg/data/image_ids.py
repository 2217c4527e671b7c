"""Which images a list names, whatever their folder, file type or the order of the list.

Published splits come as lists for many folder layouts: ``JPEGImages/2007_000032.jpg`` here, ``/images/2007_000032.png``
there. What they agree on are the ids of the images, and those are what two splits are compared by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

SUFFIXES = ("_leftImg8bit",)  # what data sets put behind the id of an image


def image_id(name: str) -> str:
    """The id of an image: ``jena_000078_000019`` of ``leftImg8bit/train/jena/jena_000078_000019_leftImg8bit.png``."""
    stem = PurePosixPath(name).stem
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def ids_sha256(names: Iterable[str]) -> str:
    """SHA-256 of a set of images: of their ids in sorted order, one a line, without a newline at the end.

    Args:
        names: paths with forward slashes, absolute or relative to anything.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256("\n".join(sorted(map(image_id, names))).encode()).hexdigest()
