import pytest
import torch

from evenseg.functional.class_statistics import class_frequency, inverse_frequency_weight


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_class_frequency_counts_pixels(dtype):
    label = torch.tensor([[0, 1, 1], [255, 3, 1]], dtype=dtype)
    counts = class_frequency(label, 5)
    assert counts.tolist() == [1, 3, 0, 1, 0]
    assert counts.dtype == torch.int64


def test_class_frequency_takes_another_ignore_index():
    assert class_frequency(torch.tensor([0, 7, 7, 1]), 2, ignore_index=7).tolist() == [1, 1]


@pytest.mark.parametrize("stray", [5, 254, -1])
def test_class_frequency_refuses_stray_labels(stray):
    with pytest.raises(ValueError, match="labels must be"):
        class_frequency(torch.tensor([0, stray]), 5)


def test_inverse_frequency_weight():
    weight = inverse_frequency_weight(torch.tensor([100, 25, 0, 4]), power=0.5)
    assert weight[2] == 1
    present = weight[[0, 1, 3]]
    assert present.mean().item() == pytest.approx(1)
    assert (present[1] / present[0]).item() == pytest.approx(2)  # sqrt(100 / 25)
    assert (present[2] / present[0]).item() == pytest.approx(5)
    assert inverse_frequency_weight(torch.tensor([9, 1]), power=0).tolist() == [1, 1]
