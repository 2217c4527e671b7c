"""Numbers of subclasses: the formula in fractions, the bounds that follow from it, and the least size of a budget."""

import math
from fractions import Fraction

import pytest
import torch

from evenseg.functional.class_statistics import class_balance_rate
from evenseg.functional.clustering import subclass_counts


def counts_in_fractions(pixels: list[int], size: int, rounding: str) -> list[int]:
    rounded = {
        "nearest": lambda ratio: math.floor(ratio + Fraction(1, 2)),
        "ceil": math.ceil,
        "floor": math.floor,
    }[rounding]
    return [max(1, rounded(Fraction(n, size))) for n in pixels]


def random_pixels(seed: int, classes: int = 8) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (10 ** (5 * torch.rand(classes, generator=g))).long() + 3


def test_the_example() -> None:
    pixels = torch.tensor([100, 10, 26])
    assert subclass_counts(pixels).tolist() == [10, 1, 3]
    assert subclass_counts(pixels, rounding="ceil").tolist() == [10, 1, 3]
    assert subclass_counts(pixels, rounding="floor").tolist() == [10, 1, 2]
    assert subclass_counts(torch.tensor([25, 10])).tolist() == [3, 1]  # one half is rounded up


def test_empty_classes_have_one_and_set_no_size() -> None:
    assert subclass_counts(torch.tensor([0, 30, 10, 0])).tolist() == [1, 3, 1, 1]
    assert subclass_counts(torch.zeros(3, dtype=torch.int64)).tolist() == [1, 1, 1]
    assert subclass_counts(torch.tensor([0, 0]), rule="budget").tolist() == [1, 1]


@pytest.mark.parametrize("rounding", ["nearest", "ceil", "floor"])
def test_equals_fractions_and_keeps_the_bounds(rounding: str) -> None:
    low, high = {"nearest": (0.75, 1.5), "ceil": (0.5, 1.0), "floor": (1.0, 2.0)}[rounding]
    for seed in range(20):
        pixels = random_pixels(seed)
        smallest = int(pixels.min())
        counts = subclass_counts(pixels, rounding=rounding)  # type: ignore[arg-type]
        assert counts.dtype == torch.int64
        assert counts.tolist() == counts_in_fractions(pixels.tolist(), smallest, rounding)
        assert bool((counts <= pixels).all())
        size = pixels.double() / counts / smallest
        assert low <= float(size.min())
        assert float(size.max()) <= high


def test_sizes_vary_little_and_not_at_all_for_multiples() -> None:
    for seed in range(20):
        pixels = random_pixels(seed)
        counts = subclass_counts(pixels)
        sizes = (pixels.double() / counts).repeat_interleave(counts)
        assert float(sizes.std(correction=0) / sizes.mean()) <= 0.354
    counts = subclass_counts(torch.tensor([7, 70, 21]))
    assert counts.tolist() == [1, 10, 3]
    assert float(class_balance_rate(torch.full((14,), 7))) == 1.0


@pytest.mark.parametrize("rounding", ["nearest", "ceil", "floor"])
def test_a_budget_is_kept_with_the_smallest_size(rounding: str) -> None:
    for seed in range(10):
        pixels = random_pixels(seed).clamp(max=5000)
        pixels[seed % 8] = 0
        budget = 20 + 7 * seed
        found = subclass_counts(pixels, rule="budget", budget=budget, rounding=rounding)  # type: ignore[arg-type]
        size = 1
        while sum(counts_in_fractions(pixels.tolist(), size, rounding)) > budget:
            size += 1
        assert found.tolist() == counts_in_fractions(pixels.tolist(), size, rounding)
        assert int(found.sum()) <= budget


def test_a_budget_of_one_each_and_of_more_than_there_are_pixels() -> None:
    assert subclass_counts(torch.tensor([1000, 1, 0]), rule="budget", budget=3).tolist() == [1, 1, 1]
    assert subclass_counts(torch.tensor([9, 4, 0]), rule="budget", budget=99).tolist() == [9, 4, 1]
    large = torch.tensor([10**14, 3 * 10**13])
    assert int(subclass_counts(large, rule="budget").sum()) == 254


def test_bad_input_is_refused() -> None:
    for pixels in (torch.tensor([1.0, 2.0]), torch.tensor([[1, 2]]), torch.tensor([3, -1]), torch.tensor([]).long()):
        with pytest.raises(ValueError):
            subclass_counts(pixels)
    with pytest.raises(ValueError, match="budget of 2"):
        subclass_counts(torch.tensor([5, 5, 5]), rule="budget", budget=2)
    with pytest.raises(ValueError, match="median"):
        subclass_counts(torch.tensor([5, 5]), rule="median")  # type: ignore[arg-type]
