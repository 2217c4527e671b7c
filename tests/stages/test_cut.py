"""The cut through all keys, in ever narrower intervals, against sorting them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from evenseg.functional.confidence_codes import CODES, code_thresholds
from evenseg.functional.pixel_keys import pixel_keys
from evenseg.stages.pseudo_label import cut as module
from evenseg.stages.pseudo_label.cut import Image, keep_exactly
from evenseg.stages.pseudo_label.shards import Predicted, histogram_of

CLASSES = 3


def stored(count: int = 12) -> list[Image]:
    rng = np.random.default_rng(0)
    return [
        Image(
            number,
            f"{number:02d}",
            Predicted(
                rng.integers(0, CLASSES, (20, 30), dtype=np.uint8),
                rng.integers(CODES - 3, CODES, (20, 30), dtype=np.uint16),
            ),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("scope", ["survivors", "ties"])
@pytest.mark.parametrize(
    ("sorted_at_most", "counters"), [(10**6, 1 << 20), (50, 1 << 20), (50, 4 * CLASSES), (0, 1 << 6)]
)
def test_the_smallest_keys_are_kept(
    scope: str, sorted_at_most: int, counters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COUNTERS", counters)
    images = stored()
    histogram = sum(histogram_of(image.predicted, CLASSES) for image in images)
    thresholds = code_thresholds(histogram, torch.tensor([100, 1000, 0]))

    def again() -> Iterator[Image]:
        return iter(images)

    cut = keep_exactly(thresholds, scope, again, seed=5, sorted_at_most=sorted_at_most)
    for label in range(CLASSES):
        pool, always = [], 0
        for image in images:
            mine = image.predicted.label == label
            low, free = int(thresholds.code[label]), CODES
            if scope == "ties":
                free = low + 1
                always += int((mine & (image.predicted.code >= free)).sum())
            place = np.flatnonzero(mine & (image.predicted.code >= low) & (image.predicted.code < free))
            keys = pixel_keys(image.name, torch.from_numpy(place), seed=5).tolist()
            pool += [(key, image.number, where) for key, where in zip(keys, place.tolist(), strict=True)]
        expected = sorted(pool)[: int(thresholds.taken[label]) - always]
        kept = {
            (image.number, where)
            for image in images
            for where in np.flatnonzero(cut.kept(image, 5) & (image.predicted.label == label)).tolist()
        }
        drawn = {(number, where) for _, number, where in expected}
        assert drawn <= kept
        assert len(kept) == int(thresholds.taken[label])


def test_equal_keys_are_told_apart_by_image_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pixel_keys", lambda name, place, *, seed: torch.full_like(place, 7))
    images = stored(3)
    histogram = sum(histogram_of(image.predicted, CLASSES) for image in images)
    thresholds = code_thresholds(histogram, torch.tensor([5, 250, 400]))
    for sorted_at_most in (10**6, 10):  # intervals cannot be narrowed down to fewer
        cut = keep_exactly(thresholds, "survivors", lambda: iter(images), seed=0, sorted_at_most=sorted_at_most)
        kept = [np.bincount(image.predicted.label[cut.kept(image, 0)], minlength=3) for image in images]
        assert sum(kept).tolist() == [5, 250, 400]


def test_state_is_small_however_many_images_there_are() -> None:
    assert module.COUNTERS * 8 + module.SORTED * 4 * 8 + 19 * CODES * 8 <= 16_000_000
