"""Thresholds counted from codes are those that sorting gives, bit for bit."""

import numpy as np
import pytest
import torch
from torch import Tensor

from evenseg.functional.confidence_codes import (
    CODES,
    code_histogram,
    code_thresholds,
    confidence_codes,
    decode_confidence,
)


def made(kind: str, pixels: int = 4000, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Confidences and labels; class 3 is never predicted."""
    g = torch.Generator().manual_seed(len(kind))
    label = torch.randint(0, classes, (pixels,), generator=g)
    label[label == 3] = 0
    confidence = torch.rand(pixels, generator=g)
    if kind == "tied":
        confidence = (confidence * 7).round() / 7
    if kind == "near one":
        confidence = 1 - confidence * 2e-3
    if kind == "equal":
        confidence[:] = 1.0
    return confidence, label


KINDS = ["random", "tied", "near one", "equal"]


def test_every_code_stands_for_a_larger_number_than_the_one_before() -> None:
    values = decode_confidence(torch.arange(CODES))
    assert values[0] == 0
    assert values[-1] == 1
    assert bool((values.diff() > 0).all())
    assert torch.equal(confidence_codes(values).long(), torch.arange(CODES))
    assert decode_confidence(torch.tensor([CODES])).item() == float("inf")


def test_codes_are_those_of_numpy_and_almost_one_is_one() -> None:
    confidence = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    expected = confidence.numpy().astype(np.float16).view(np.int16)
    assert np.array_equal(confidence_codes(confidence).numpy(), expected)
    assert confidence_codes(torch.tensor([0.9998])).item() == CODES - 1
    assert confidence_codes(torch.tensor([0.9995])).item() < CODES - 1


def test_what_is_no_confidence_has_no_code() -> None:
    codes = confidence_codes(torch.tensor([torch.nan, torch.inf, -0.5, 1.5])).long()
    assert bool(((codes < 0) | (codes >= CODES)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_are_entries_of_the_sorted_confidences(kind: str) -> None:
    confidence, label = made(kind)
    code = confidence_codes(confidence)
    predicted = torch.bincount(label, minlength=5).tolist()
    for quota in ([1, 1, 1, 1, 1], [0, 5, 700, 3, 99999], [400, 0, 0, 0, 800], [9999] * 5, predicted):
        found = code_thresholds(code_histogram(code, label, 5), torch.tensor(quota))
        for index, wanted in enumerate(quota):
            values = np.sort(confidence[label == index].numpy().astype(np.float16))[::-1]
            taken = min(wanted, len(values))
            assert found.taken[index] == taken
            if taken == 0:
                assert (found.code[index], found.survivors[index]) == (CODES, 0)
                continue
            threshold = values[taken - 1]
            assert decode_confidence(found.code)[index].item() == float(threshold)
            assert found.survivors[index] == (values >= threshold).sum()
            assert found.above[index] == (values > threshold).sum()
            assert found.tied[index] == (values == threshold).sum()
            assert found.above[index] < taken <= found.survivors[index]


def test_histograms_of_parts_add_up() -> None:
    confidence, label = made("random")
    label[:100] = 255
    code = confidence_codes(confidence)
    whole = code_histogram(code, label, 5)
    parts = [code_histogram(code[i::3], label[i::3], 5) for i in range(3)]
    assert torch.equal(whole, torch.stack(parts).sum(0))
    assert whole.sum() == len(label) - 100


def test_more_than_two_to_the_32_pixels_are_counted() -> None:
    histogram = torch.zeros(2, CODES, dtype=torch.int64)
    histogram[0, 5], histogram[0, 900], histogram[1, CODES - 1] = 3_000_000_000, 3_000_000_000, 6_000_000_000
    found = code_thresholds(histogram, torch.tensor([3_000_000_001, 5_999_999_999]))
    assert found.code.tolist() == [5, CODES - 1]
    assert found.above.tolist() == [3_000_000_000, 0]
    assert found.survivors.tolist() == [6_000_000_000, 6_000_000_000]


def test_three_hundred_classes_and_none_at_all() -> None:
    label = torch.arange(300)
    histogram = code_histogram(confidence_codes(torch.full((300,), 0.25)), label, 300)
    found = code_thresholds(histogram, torch.ones(300, dtype=torch.int64))
    assert bool((decode_confidence(found.code) == 0.25).all())
    empty = code_histogram(torch.empty(0, dtype=torch.int16), torch.empty(0, dtype=torch.int64), 300)
    assert bool((code_thresholds(empty, torch.ones(300, dtype=torch.int64)).code == CODES).all())
