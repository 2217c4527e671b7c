"""Percentiles by two histograms against numpy's by sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evenseg.functional.percentiles import percentiles

PERCENT = (0, 20, 33.3, 80, 99.9, 100)


def found(value, valid):
    both = percentiles(value, valid, PERCENT * 2, ["down"] * len(PERCENT) + ["up"] * len(PERCENT))
    return both.tolist()


@pytest.mark.parametrize("count", [1, 2, 5, 100, 1001])
def test_entries_are_those_of_the_sorted_values(count):
    generator = torch.Generator().manual_seed(count)
    for _ in range(10):
        value = torch.rand(count, generator=generator) ** 6  # of all magnitudes
        value[: count // 4] = value[-1]  # ties
        value[count // 2] = 0
        valid = torch.rand(count, generator=generator) < 0.8
        valid[-1] = True
        kept = value[valid].numpy()
        expected = [np.percentile(kept, PERCENT, method=method) for method in ("lower", "higher")]
        assert found(value, valid) == np.concatenate(expected).tolist()


def test_shares_that_are_not_exact_in_binary_are_taken_as_they_are_written():
    value, valid = torch.arange(11.0), torch.ones(11, dtype=torch.bool)
    for percent in range(0, 101, 10):
        assert percentiles(value, valid, [percent] * 2, ["down", "up"]).tolist() == [percent // 10] * 2


def test_comparing_with_an_entry_is_comparing_with_what_numpy_interpolates():
    value = torch.rand(50, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(50, dtype=torch.bool)
    for percent in (0, 3, 20, 77.7, 100):
        between = np.float32(np.percentile(value.double().numpy(), percent))
        down, up = percentiles(value, valid, [percent] * 2, ["down", "up"])
        assert torch.equal(value <= down, value <= between)
        assert torch.equal(value >= up, value >= between)


def test_nothing_valid_has_no_percentile():
    assert torch.isnan(percentiles(torch.rand(3), torch.zeros(3, dtype=torch.bool), [50], ["up"])).all()
