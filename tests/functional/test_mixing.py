import random

import numpy as np
import pytest
import torch

from evenseg.functional import mixing


@pytest.mark.parametrize(("height", "width", "area"), [(32, 48, 0.5), (65, 17, 0.25), (8, 8, 1.0)])
def test_cutmix_boxes_have_the_area_and_lie_inside(height, width, area):
    mask = mixing.cutmix_mask(200, height, width, generator=torch.Generator().manual_seed(0), area=area)
    assert mask.shape == (200, 1, height, width)
    assert mask.dtype == torch.bool
    for image in mask[:, 0]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()  # one full rectangle
        # rounding both sides moves the area by at most half a row and half a column
        assert abs(int(box.sum()) - area * height * width) <= 0.5 * (sum(box.shape)) + 0.25
    if area < 1:
        shapes = {tuple(image.any(dim).sum().item() for dim in (0, 1)) for image in mask[:, 0]}
        assert len(shapes) > 10  # the shape varies


def test_cutmix_positions_reach_all_borders():
    mask = mixing.cutmix_mask(500, 16, 16, generator=torch.Generator().manual_seed(0), area=0.25)[:, 0]
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert mask[:, :, 0].any()
    assert mask[:, :, -1].any()


def test_cutmix_mask_follows_its_generator():
    first = mixing.cutmix_mask(4, 20, 20, generator=torch.Generator().manual_seed(5))
    again = mixing.cutmix_mask(4, 20, 20, generator=torch.Generator().manual_seed(5))
    other = mixing.cutmix_mask(4, 20, 20, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def edges(mask):
    """(B, 4) top, bottom, left and right of boxes, which have to be full rectangles of one pixel at least."""
    found = []
    for image in mask[:, 0]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        found.append([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
    return np.array(found)


def unimatch_box(dice, height, width, area, aspect):
    """UniMatch's ``obtain_cutmix_box``: shape and place until the box is inside."""
    pixels = area * height * width
    while True:
        ratio = dice.uniform(*aspect)
        box_width, box_height = int((pixels / ratio) ** 0.5), int((pixels * ratio) ** 0.5)
        left, top = dice.randrange(width), dice.randrange(height)
        if left + box_width <= width and top + box_height <= height:
            return top, top + box_height, left, left + box_width


@pytest.mark.parametrize(("height", "width", "area"), [(40, 40, 0.1), (40, 40, 0.4), (24, 60, 0.3)])
def test_boxes_by_aspect_are_distributed_as_unimatchs(height, width, area):
    aspect, dice, count = (0.3, 1 / 0.3), random.Random(0), 4000
    expected = np.array([unimatch_box(dice, height, width, area, aspect) for _ in range(count)])
    uniform = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = edges(mixing.box_mask(uniform, height, width, area=area, aspect=aspect))
    for name, value, right in (
        ("height", got[:, 1] - got[:, 0], expected[:, 1] - expected[:, 0]),
        ("width", got[:, 3] - got[:, 2], expected[:, 3] - expected[:, 2]),
        *((edge, got[:, i], expected[:, i]) for i, edge in enumerate(("top", "bottom", "left", "right"))),
    ):
        grid = np.arange(max(height, width) + 1)[:, None]
        distance = np.abs((value <= grid).mean(1) - (right <= grid).mean(1)).max()  # Kolmogorov and Smirnov's
        assert distance < 1.95 * (2 / count) ** 0.5, name  # exceeded by chance once in a thousand times


def test_every_box_has_its_own_area():
    area = torch.tensor([0.02, 0.4, 0.1], dtype=torch.float64)
    for aspect in (None, (1.0, 1.0)):
        mask = mixing.box_mask(torch.full((3, 3), 0.5), 100, 100, area=area, aspect=aspect)
        assert mask.float().mean((1, 2, 3)).tolist() == pytest.approx(area.tolist(), rel=0.05)


def test_a_shape_that_does_not_fit_is_cut_to_the_image():
    mask = mixing.box_mask(torch.rand(20, 3, dtype=torch.float64), 10, 40, area=0.9, aspect=(2.0, 3.0))
    assert (edges(mask)[:, 1] == 10).all()


def test_class_mask():
    label = torch.tensor([[[0, 1], [2, 255]], [[0, 1], [2, -1]]])
    classes = torch.tensor([[True, False, True], [False, True, False]])
    mask = mixing.class_mask(label, classes)
    assert mask.tolist() == [[[[True, False], [True, False]]], [[[False, True], [False, False]]]]


def test_half_of_the_classes_are_chosen():
    generator = torch.Generator().manual_seed(0)
    chosen_ever = torch.zeros(6, dtype=torch.bool)
    for _ in range(100):
        label = torch.randint(0, 6, (3, 4, 4), generator=generator)
        label[0] = label[0].clamp(max=2)
        valid = torch.rand(3, 4, 4, generator=generator) < 0.6
        chosen = mixing.choose_half_of_classes(label, valid, torch.rand(3, 6, generator=generator))
        for image in range(3):
            present = set(label[image][valid[image]].tolist())
            picked = set(chosen[image].nonzero().flatten().tolist())
            assert picked <= present
            assert len(picked) == len(present) // 2
        chosen_ever |= chosen.any(0)
    assert chosen_ever.all()


@pytest.mark.parametrize(("batch", "partners"), [(1, [0]), (2, [1, 0]), (4, [1, 0, 3, 2]), (5, [1, 0, 3, 2, 3])])
def test_neighbours(batch, partners):
    assert mixing.neighbour(batch).tolist() == partners
