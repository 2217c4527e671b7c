"""Cells and pixels: the map whose value is nearest, as enlargement with aligned corners places them."""

import pytest
import torch
import torch.nn.functional as F

from evenseg.functional.cells import cell_of_pixel, pixel_of_cell, to_cells, to_pixels


@pytest.mark.parametrize(("cells", "padded"), [(12, 48), (84, 336), (9, 65), (1, 16), (5, 5)])
def test_nearest_cell_is_the_one_that_weighs_most_in_the_enlargement(cells, padded):
    weights = F.interpolate(torch.eye(cells)[None], size=padded, mode="linear", align_corners=True)[
        0
    ]  # (cells, padded)
    chosen = cell_of_pixel(padded, cells, padded)
    assert torch.allclose(weights[chosen, torch.arange(padded)], weights.max(0).values, atol=1e-4)
    assert chosen.min() >= 0
    assert chosen.max() == cells - 1


def test_a_cell_has_the_pixel_on_which_it_lies():
    pixel = pixel_of_cell(12, 48)
    assert pixel[0] == 0
    assert pixel[-1] == 47
    assert torch.equal(cell_of_pixel(48, 12, 48)[pixel], torch.arange(12))


def test_there_and_back_is_the_same_map():
    cells = torch.arange(2 * 12 * 15).view(2, 12, 15)
    pixels = to_pixels(cells, (45, 57), (48, 60))
    assert pixels.shape == (2, 45, 57)
    back = to_cells(pixels, (12, 15), (48, 60), outside=-1)
    inside = back >= 0
    assert torch.equal(back[inside], cells[inside])
    assert not inside[:, -1].any()  # the last row lies on pixel 47
    assert inside[:, :-1, :-1].all()


def test_maps_of_the_same_size_stay_what_they_are():
    whole = torch.rand(1, 4, 6)
    assert to_pixels(whole, (4, 6), (4, 6)) is whole
    assert to_cells(whole, (4, 6), (4, 6), outside=0) is whole


def test_bool_maps_are_outside_where_the_image_ends():
    valid = to_cells(torch.ones(1, 10, 16, dtype=torch.bool), (4, 4), (16, 16), outside=False)
    assert valid[0].all(1).tolist() == [True, True, False, False]
