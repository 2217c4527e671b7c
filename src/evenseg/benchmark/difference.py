"""Paired differences between two rows of a plan, or two runs, with their intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

import torch

from evenseg.benchmark.finished import Finished
from evenseg.metrics.image_counts import mean_iou
from evenseg.metrics.intervals import Interval, paired_bootstrap_interval, paired_t_interval

FIGURES = ("miou", "tail_miou", "head_miou")


class Difference(NamedTuple):
    """Ours minus theirs. over_images, over_folds: None where there is too little to tell."""

    figure: str
    mean: float
    over_images: Interval | None
    over_folds: Interval | None


class Units(NamedTuple):
    """What counts as one independent piece of evidence. pattern: its group names the sequence of an image, None:
    every image by itself. block: consecutive images of a sequence that count as one unit, None: all of them."""

    pattern: str | None = None
    block: int | None = None

    def of(self, names: Sequence[str]) -> list[tuple[str, int]] | None:
        """The unit of every image of a list; an image without a match is one by itself."""
        if self.pattern is None and self.block is None:
            return None
        units, seen = [], dict[str, int]()
        for name in names:
            match = re.search(self.pattern, name) if self.pattern is not None else None
            sequence = match.group(1) if match else ("" if self.pattern is None else name)
            position = seen.get(sequence, 0)
            seen[sequence] = position + 1
            units.append((sequence, position // self.block if self.block else 0))
        return units


def differences(
    ours: Sequence[Finished], theirs: Sequence[Finished], units: Units, *, seed: int = 0
) -> list[Difference]:
    """Differences of mIoU, tail and head mIoU over paired runs: the i-th of both has the same split, fold and seed.

    The interval over images needs the counts of all runs on the same images; the one over folds needs three pairs.
    """
    names = theirs[0].result["per_class_iou"]
    tail = [index for index, name in enumerate(names) if name in theirs[0].result["tail_classes"]]
    head = [index for index in range(len(names)) if index not in tail]
    counts = _counts([*ours, *theirs])
    sequence = units.of(theirs[0].images.names) if theirs[0].images is not None else None
    found = []
    for figure, classes in zip(FIGURES, (None, tail, head), strict=True):
        pairs = [(a.result[figure], b.result[figure]) for a, b in zip(ours, theirs, strict=True)]
        by_fold = [a - b for a, b in pairs if a is not None and b is not None]
        if not by_fold:
            continue
        over_images = None
        if counts is not None:
            over_images = paired_bootstrap_interval(
                counts[: len(ours)],
                counts[len(ours) :],
                partial(mean_iou, classes=classes),
                generator=torch.Generator().manual_seed(seed),
                sequence=sequence,
            )
        found.append(Difference(figure, fmean(by_fold), over_images, paired_t_interval(by_fold)))
    return found


def _counts(runs: Sequence[Finished]) -> torch.Tensor | None:
    """(runs, N, 3, C) counts of runs scored on the same images; None where that is not so."""
    images = [run.images for run in runs if run.images is not None]
    if len(images) < len(runs) or any(image.names != images[0].names for image in images):
        return None
    return torch.stack([image.counts for image in images])
