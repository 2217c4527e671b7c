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
