"""Windows of one image, and which of their cells show the same place."""

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.windows import cell_means, cut, matches, window_offsets


@pytest.mark.parametrize(("free", "reach"), [((5, 9), (4, 20)), ((0, 3), (7, 2)), ((1, 1), (0, 0))])
def test_offsets_stay_inside_and_within_reach(free, reach):
    uniform = torch.rand(500, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = window_offsets(uniform, free, reach)
    assert first.shape == (500, 2)
    assert first.dtype == torch.int64
    for axis in range(2):
        one, two = first[:, axis], second[:, axis]
        assert torch.cat([one, two]).min() == 0
        assert torch.cat([one, two]).max() == free[axis]
        distance = one - two
        assert distance.abs().max() == min(free[axis], reach[axis])
        assert set(distance.tolist()) == set(range(-min(free[axis], reach[axis]), min(free[axis], reach[axis]) + 1))


def test_offsets_belong_to_their_row():
    uniform = torch.rand(6, 6, dtype=torch.float64)
    whole = window_offsets(uniform, (4, 4), (3, 3))
    assert torch.equal(whole[:, 2:4], window_offsets(uniform[2:4], (4, 4), (3, 3)))


def test_the_largest_number_is_still_inside():
    almost_one = torch.full((1, 6), 1 - 2.0**-53, dtype=torch.float64)
    assert window_offsets(almost_one, (3, 5), (2, 9)).tolist() == [[[3, 5]], [[3, 5]]]


def test_matching_cells_show_the_same_place():
    """Every pixel of an image is its own number: matched cells have the same one, by a loop over all pairs."""
    rows, columns = 3, 4
    image = torch.arange(2 * 8 * 9.0).view(2, 1, 8, 9)
    own, other = torch.tensor([[1, 2], [4, 0]]), torch.tensor([[3, 1], [0, 0]])
    one, two = cut(image, own, (rows, columns)), cut(image, other, (rows, columns))
    found = matches(own, other, (rows, columns))
    there = found(two)
    assert there.shape == two.shape
    for i in range(2):
        numbers = two[i].flatten().tolist()
        for p, number in enumerate(one[i].flatten().tolist()):
            assert found.inside[i, p] == (number in numbers)
            if number in numbers:
                assert there[i].flatten()[p] == number
    assert found.inside[0].sum() == 1 * 3
    assert not found.inside[1].any()  # four rows apart: nothing in common


def test_windows_of_maps_and_of_channels():
    value = torch.rand(2, 5, 8, 9)
    offset = torch.tensor([[0, 5], [3, 2]])
    windows = cut(value, offset, (4, 4))
    assert torch.equal(windows[1], value[1, :, 3:7, 2:6])
    assert torch.equal(cut(value[:, 0], offset, (4, 4)), windows[:, 0])
    same = matches(offset, offset, (4, 4))
    assert same.inside.all()
    assert torch.equal(same(windows), windows)
    assert torch.equal(same(windows[:, 0]), windows[:, 0])


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (2, 3)])
def test_cells_are_means(size):
    value = torch.rand(2, 3, *size)
    assert torch.allclose(cell_means(value, size), value)
    assert torch.allclose(cell_means(value, (1, 1)).flatten(1), value.mean((2, 3)))
    assert torch.allclose(cell_means(value, (2, 3)), F.adaptive_avg_pool2d(value, (2, 3)))


def test_a_coarser_map_is_repeated():
    value = torch.rand(1, 1, 2, 2)
    assert torch.equal(cell_means(value, (4, 4)), value.repeat_interleave(2, 2).repeat_interleave(2, 3))
