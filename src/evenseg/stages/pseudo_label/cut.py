"""Exactly so many pixels of each class, drawn from any number of them in a few passes over what is stored.

Every pixel has a key that depends on its image, its place and the seed (``functional.pixel_keys``); the pixels with
the smallest keys are drawn. The largest of these keys is an order statistic: counted in ever narrower intervals until
so few keys are left that they can be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from evenseg.functional.confidence_codes import CODES, CodeThresholds
from evenseg.functional.distributed import gather_over_ranks, sum_over_ranks
from evenseg.functional.pixel_keys import KEY_BITS, pixel_keys
from evenseg.stages.pseudo_label.shards import Predicted

COUNTERS = 1 << 19  # of keys, 8 bytes each, over all classes
SORTED = 1 << 18  # keys that are sorted in memory, 32 bytes each
PIXELS_AT_ONCE = 1 << 18  # of an image: what is computed of them stays in the cache of a core
WHOLE = (1 << KEY_BITS) - 1  # the largest key


class Image(NamedTuple):
    """What is stored of an image. number: its position in the order of all names."""

    number: int
    name: str
    predicted: Predicted


class Cut(NamedTuple):
    """What is kept of each class, (C,) int64 each.

    code: the lowest code that can be kept. free: from this code on everything is. In between a pixel is kept if its
    (key, image, place) is at most (``key``, ``image``, ``place``).
    """

    code: Tensor
    free: Tensor
    key: Tensor
    image: Tensor
    place: Tensor

    def candidates(self, image: Image, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Keys, classes and row-major places (n,) of the pixels that are drawn from, a part of the image at a time."""
        lowest, free = (each.numpy().astype(np.uint16) for each in (self.code, self.free))
        labels, codes = image.predicted.label.reshape(-1), image.predicted.code.reshape(-1)
        for start in range(0, len(labels), PIXELS_AT_ONCE):
            label, code = labels[start : start + PIXELS_AT_ONCE], codes[start : start + PIXELS_AT_ONCE]
            inside = np.flatnonzero((lowest[label] <= code) & (code < free[label]))
            place = torch.from_numpy(inside + start)
            yield pixel_keys(image.name, place, seed=seed), torch.from_numpy(label[inside].astype(np.int64)), place

    def kept(self, image: Image, seed: int) -> np.ndarray:
        """(H, W) bool."""
        predicted = image.predicted
        kept: np.ndarray = predicted.code >= self.free.numpy().astype(np.uint16)[predicted.label]
        # pixels with the key of the cut itself: all of earlier images, of this one up to the place
        last = torch.where(self.image == image.number, self.place, torch.where(self.image > image.number, WHOLE, -1))
        for key, label, place in self.candidates(image, seed):
            cut = self.key[label]
            kept.reshape(-1)[place.numpy()] = ((key < cut) | ((key == cut) & (place <= last[label]))).numpy()
        return kept


def keep_all(code: Tensor) -> Cut:
    """Every pixel whose code is at least its class', (C,) int64."""
    return Cut(code, code, *(torch.zeros_like(code) for _ in range(3)))


def keep_share(thresholds: CodeThresholds) -> Cut:
    """Every pixel above the threshold with the same chance, so that the quotas are met on average."""
    # in float64 2^63 itself would be reached, which is no int64
    share = thresholds.taken.double() / thresholds.survivors.clamp(min=1)
    key = (share * 2.0**62).long() * 2 - 1
    key[thresholds.taken == thresholds.survivors] = WHOLE
    nothing = torch.full_like(key, -1)
    return Cut(thresholds.code, torch.full_like(key, CODES), key, nothing, nothing)


def keep_exactly(
    thresholds: CodeThresholds,
    scope: str,
    images: Callable[[], Iterator[Image]],
    *,
    seed: int,
    sorted_at_most: int = SORTED,
) -> Cut:
    """Exactly ``thresholds.taken`` pixels of each class.

    Args:
        thresholds: of the quotas.
        scope: draw among all ``survivors``, or among ``ties`` at the threshold.
        images: gives this process's images once more each time it is called.
        seed: of the keys.
        sorted_at_most: keys that are sorted in memory.
    """
    code, size = thresholds.code, thresholds.survivors
    count = thresholds.taken
    free = torch.full_like(code, CODES)
    if scope == "ties":
        free, size, count = (code + 1).clamp(max=CODES), thresholds.tied, thresholds.taken - thresholds.above
    free = torch.where(count == size, code, free)  # nothing to draw
    count, size = count.where(free > code, 0), size.where(free > code, 0)
    cut = Cut(code, free, *(torch.zeros_like(code) for _ in range(3)))
    if not bool((count > 0).any()):
        return cut
    low, bits = torch.zeros_like(code), KEY_BITS
    step = max((COUNTERS // len(code)).bit_length() - 1, 1)
    while int(size.sum()) > sorted_at_most and bits > 0:
        step = min(step, bits)
        counts = _count_keys(cut, images, seed, low, bits, step)
        at_most = counts.cumsum(dim=1)
        place = (at_most < count[:, None]).sum(dim=1).clamp(max=(1 << step) - 1)
        before = (at_most - counts).gather(1, place[:, None]).squeeze(1)
        size = counts.gather(1, place[:, None]).squeeze(1).where(count > 0, 0)
        count = (count - before).where(count > 0, 0)
        bits -= step
        low = low + (place << bits)
    return _sort_keys(cut, images, seed, low, bits, count)


def _count_keys(
    cut: Cut, images: Callable[[], Iterator[Image]], seed: int, low: Tensor, bits: int, step: int
) -> Tensor:
    """(C, 2^step) keys in the equal parts of the interval of 2^bits keys from ``low`` on."""
    counts = torch.zeros(len(low) << step, dtype=torch.int64)
    for image in images():
        for key, label, _ in _keys_between(cut, image, seed, low, bits):
            part = (key - low[label]) >> (bits - step)
            counts += torch.bincount((label << step) + part, minlength=len(counts))
    return sum_over_ranks(counts).view(len(low), -1)


def _sort_keys(
    cut: Cut, images: Callable[[], Iterator[Image]], seed: int, low: Tensor, bits: int, count: Tensor
) -> Cut:
    """The last of the ``count`` smallest keys of each class in the interval of 2^bits keys from ``low`` on."""
    found = []
    for image in images():
        for key, label, place in _keys_between(cut, image, seed, low, bits):
            if len(key):
                found.append(torch.stack([label, key, torch.full_like(key, image.number), place]))
    own = torch.cat(found, dim=1) if found else torch.empty(4, 0, dtype=torch.int64)
    label, *ordered = torch.cat(gather_over_ranks(own), dim=1).numpy()
    order = np.lexsort([*reversed(ordered), label])
    ends = torch.from_numpy(np.searchsorted(label[order], np.arange(len(low)))) + count - 1
    chosen = torch.from_numpy(order)[ends.clamp(0, max(len(order) - 1, 0))] if len(order) else ends * 0
    values = [torch.from_numpy(each)[chosen].where(count > 0, 0) if len(order) else ends * 0 for each in ordered]
    return cut._replace(key=values[0], image=values[1], place=values[2])


def _keys_between(cut: Cut, image: Image, seed: int, low: Tensor, bits: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Keys, classes and places of the pixels that are drawn from, with keys in the interval of their class."""
    for key, label, place in cut.candidates(image, seed):
        inside = ((key ^ low[label]) >> bits) == 0  # low is a multiple of 2^bits
        yield key[inside], label[inside], place[inside]
