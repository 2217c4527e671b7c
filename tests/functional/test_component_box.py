"""Boxes of regions against a flood fill."""

import pytest
import torch

from evenseg.functional.boxes import random_box
from evenseg.functional.component_box import _regions, component_box, component_box_from

BELOW_ONE = 1 - 2.0**-53
both = pytest.mark.parametrize("method", ["exact", "propagate"])


def flood(mask):
    """The 8-connected regions of a (H, W) mask, each a set of (y, x)."""
    left, regions = {(y, x) for y, x in mask.nonzero().tolist()}, []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def box_of(region):
    rows, columns = zip(*region, strict=True)
    return min(rows), min(columns), max(rows) + 1, max(columns) + 1


def draws(count):
    """(count, 4) numbers whose first column is spread evenly."""
    uniform = torch.rand(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform[:, 0] = (torch.arange(count) + 0.5) / count
    return uniform


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_area", [0, 3, 3.5, 12])
def test_exact_boxes_are_those_of_all_regions_that_are_large_enough(seed, min_area):
    mask = torch.rand(17, 23, generator=torch.Generator().manual_seed(seed)) < 0.3
    boxes = sorted(box_of(region) for region in flood(mask) if len(region) > min_area)
    assert boxes
    label = torch.where(mask, 4, 255).expand(10 * len(boxes), -1, -1)
    found = component_box_from(label, torch.full((len(label),), 4), min_area, draws(len(label)))
    assert sorted(tuple(box) for box in found.tolist()) == sorted(10 * boxes)  # each equally often


@both
@pytest.mark.parametrize("seed", range(5))
def test_a_rectangle_is_its_own_box(method, seed):
    generator = torch.Generator().manual_seed(seed)
    label, expected = torch.full((20, 131, 77), 3), []
    for image in label:
        height, width = torch.randint(16, 60, (2,), generator=generator).tolist()
        top = int(torch.randint(0, 131 - height + 1, (1,), generator=generator))
        left = int(torch.randint(0, 77 - width + 1, (1,), generator=generator))
        image[top : top + height, left : left + width] = 1
        image[:2, :2] = 1 if top > 20 and left > 20 else 3  # too small a region
        expected.append([top, left, top + height, left + width])
    found = component_box_from(label, torch.ones(20, dtype=torch.int64), 120, draws(20), method=method)
    difference = (found - torch.tensor(expected)).abs()
    assert difference.max() <= (0 if method == "exact" else 8)


@both
@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 0), (BELOW_ONE, 1), (1.0, 1)])
def test_the_ends_of_the_unit_interval(method, uniform, expected):
    label = torch.zeros(1, 64, 96, dtype=torch.int64)
    label[0, :16, :16] = label[0, 40:, 56:] = 2
    draw = torch.full((1, 4), uniform, dtype=torch.float64)
    boxes = [[0, 0, 16, 16], [40, 56, 64, 96]]
    assert component_box_from(label, torch.tensor([2]), 100, draw, method=method).tolist() == [boxes[expected]]


@both
def test_every_image_has_its_own_class_and_regions(method):
    label = torch.zeros(4, 48, 80, dtype=torch.int64)
    label[0, 8:32, 16:40] = 1
    label[1, 8:32, 16:40] = 2
    label[2, 16:, 8:40] = 3
    boxes = component_box_from(label, torch.tensor([1, 1, 3, 0]), 30, draws(4), method=method)
    assert boxes.dtype == torch.int64
    assert boxes[[0, 2]].tolist() == [[8, 16, 32, 40], [16, 8, 48, 40]]
    assert boxes[1].tolist() == random_box(draws(4)[1:2, 1:], 48, 80)[0].tolist()  # absent
    assert boxes[3].tolist() == [0, 0, 48, 80]  # everywhere: the whole image


@both
def test_an_area_has_to_be_exceeded(method):
    label = torch.zeros(1, 45, 61, dtype=torch.int64)  # the cells at two sides are cut
    target = torch.tensor([0])
    whole, none = (
        component_box_from(label, target, 45 * 61 - rest, draws(1), method=method).tolist() for rest in (1, 0)
    )
    assert whole == [[0, 0, 45, 61]]
    assert none == random_box(draws(1)[:, 1:], 45, 61).tolist()


@both
def test_without_a_region_half_of_the_image_anywhere(method):
    label = torch.full((300, 60, 90), 255)
    boxes = component_box_from(label, torch.zeros(300), 10, draws(300), method=method)
    assert torch.equal(boxes, random_box(draws(300)[:, 1:], 60, 90))
    top, left, bottom, right = boxes.unbind(dim=1)
    sides = (bottom - top, right - left)
    assert ((sides[0] * sides[1] - 0.5 * 60 * 90).abs() <= 0.5 * (sides[0] + sides[1]) + 0.25).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= 60).all()
    assert (right <= 90).all()
    assert len(set(sides[0].tolist())) > 20


def test_corners_connect():
    label = torch.zeros(1, 6, 6, dtype=torch.int64)
    for i in range(5):
        label[0, i, i] = 1
    assert component_box_from(label, torch.tensor([1]), 4, draws(1)).tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@both
def test_boxes_follow_their_generator(method, dtype):
    label = (torch.arange(64 * 64).view(1, 64, 64) // 700 % 2).repeat(8, 1, 1).to(dtype)
    target = torch.tensor([0, 1, 2, 3] * 2)
    first, again, other = (
        component_box(label, target, 50, generator=torch.Generator().manual_seed(seed), method=method)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_both_ways_choose_among_the_same_large_blobs():
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(60, 128, 160, dtype=torch.int64)
    row, column = torch.meshgrid(torch.arange(128), torch.arange(160), indexing="ij")
    for y, x in ((18, 30), (48, 110), (78, 40), (108, 135)):
        radius = float(12 + 5 * torch.rand((), generator=generator))
        label[:, (row - y) ** 2 + (column - x) ** 2 < radius**2] = 1
    target = torch.ones(60, dtype=torch.int64)
    exact, near = (component_box_from(label, target, 250, draws(60), method=m) for m in ("exact", "propagate"))
    assert len({tuple(box) for box in exact.tolist()}) == 4
    # the blobs are in different rows: in that order the same ones, equally often
    assert (torch.tensor(sorted(exact.tolist())) - torch.tensor(sorted(near.tolist()))).abs().max() <= 8


def spiral(height, width):
    """One cell wide, one cell apart."""
    grid, (y, x), (dy, dx), turns = torch.zeros(height + 4, width + 4, dtype=torch.bool), (2, 2), (0, 1), 0
    grid[2, 2] = True
    while turns < 2:
        beyond = not (2 <= y + dy < height + 2 and 2 <= x + dx < width + 2)
        if beyond or grid[y + dy, x + dx] or grid[y + 2 * dy, x + 2 * dx]:
            (dy, dx), turns = (dx, -dy), turns + 1
        else:
            (y, x), turns = (y + dy, x + dx), 0
            grid[y, x] = True
    return grid[2:-2, 2:-2]


def comb(height, width):
    grid = torch.zeros(height, width, dtype=torch.bool)
    grid[:, ::2] = grid[0] = True
    return grid


SHAPES = {
    "spiral": spiral(64, 96),
    "spiral turned": spiral(64, 96).flip(0, 1),
    "comb": comb(64, 96),
    "comb turned": comb(64, 96).flip(0),
    "sparse": torch.rand(64, 96, generator=torch.Generator().manual_seed(0)) < 0.3,
    "critical": torch.rand(64, 96, generator=torch.Generator().manual_seed(1)) < 0.407,
    "dense": torch.rand(64, 96, generator=torch.Generator().manual_seed(2)) < 0.6,
    "empty": torch.zeros(5, 7, dtype=torch.bool),
    "full": torch.ones(5, 7, dtype=torch.bool),
    "one cell": torch.ones(1, 1, dtype=torch.bool),
}


@pytest.mark.parametrize("mask", SHAPES.values(), ids=SHAPES.keys())
def test_propagation_numbers_the_regions(mask):
    found = _regions(torch.stack([mask, ~mask]))
    for grid, numbers in zip((mask, ~mask), found.view(2, *mask.shape), strict=True):
        assert (numbers[~grid] == 0).all()
        for region in flood(grid):
            positions = [y * mask.shape[1] + x for y, x in region]
            assert set(numbers.flatten()[positions].tolist()) == {1 + max(positions)}


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="method"):
        component_box_from(torch.zeros(1, 4, 4), torch.zeros(1), 1, draws(1), method="skimage")


def test_a_device_is_never_waited_for():
    """Tensors without data: whatever reads a value, or has a shape that depends on one, raises."""
    label, target = torch.zeros(2, 40, 50, device="meta", dtype=torch.int64), torch.zeros(2, device="meta")
    assert component_box_from(label, target, 10, torch.rand(2, 4, device="meta")).shape == (2, 4)
