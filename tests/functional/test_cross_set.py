"""The swap of labeled and unlabeled images, and who is paired with whom."""

import pytest
import torch

from evenseg.functional.boxes import box_to_mask, random_box
from evenseg.functional.cross_set import Places, cross_set_partner, swap

UNIFORM = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("pairing", ["random", "cross_only", "intra"])
def test_partners_are_pairs_within_their_group(pairing):
    partner = cross_set_partner(UNIFORM, pairing=pairing)
    place = torch.arange(200)
    assert torch.equal(partner[partner], place)
    assert (partner != place).all()
    assert torch.equal(partner % 100 // 2, place % 100 // 2)  # neither leaves its group
    other_set = (partner >= 100) != (place >= 100)
    expected = {"random": 2 / 3, "cross_only": 1.0, "intra": 0.0}[pairing]
    assert other_set.float().mean() == pytest.approx(expected, abs=0.15 if pairing == "random" else 0)


def test_all_pairings_occur_and_the_ends_of_the_draw_are_valid():
    ends = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    partner = cross_set_partner(ends)
    # images 0..5 are labeled, 6..11 unlabeled: within its set, with its counterpart, with the counterpart's neighbour
    assert partner[[0, 2, 4]].tolist() == [1, 8, 11]


def pairs(batch=8):
    g = torch.Generator().manual_seed(1)
    partner = cross_set_partner(torch.rand(batch // 4, generator=g))
    mask = torch.rand(batch, 1, 12, 16, generator=g) < 0.5
    return partner, mask[torch.minimum(partner, torch.arange(batch))]


@pytest.mark.parametrize("shape", [(8, 3, 12, 16), (8, 12, 16), (8, 5, 3, 4)])
def test_swapping_twice_gives_everything_back_bit_for_bit(shape):
    partner, mask = pairs()
    value = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    mixed = swap(value, partner, mask)
    assert not torch.equal(mixed, value)
    assert torch.equal(swap(mixed, partner, mask), value)
    assert torch.equal(swap(mixed.square(), partner, mask), value.square())  # pointwise maps commute
    assert torch.equal(mixed.flatten().sort().values, value.flatten().sort().values)  # each pixel once


def test_a_pointwise_projection_commutes_with_the_swap():
    partner, mask = pairs()
    g = torch.Generator().manual_seed(2)
    value, weight = torch.randn(8, 3, 12, 16, generator=g), torch.randn(5, 3, 1, 1, generator=g)
    before = torch.nn.functional.conv2d(swap(value, partner, mask), weight)
    torch.testing.assert_close(swap(torch.nn.functional.conv2d(value, weight), partner, mask), before)


def test_the_mask_shows_the_partner():
    partner, mask = pairs()
    value = torch.arange(8).view(8, 1, 1).expand(8, 12, 16)
    mixed = swap(value, partner, mask)
    for image in range(8):
        assert (mixed[image][mask[image, 0]] == partner[image]).all()
        assert (mixed[image][~mask[image, 0]] == image).all()


def test_the_gradient_goes_to_the_pixels_it_came_from():
    partner, mask = pairs()
    value = torch.randn(8, 2, 12, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(value)
    (swap(value, partner, mask) * weight).sum().backward()
    assert torch.equal(value.grad, swap(weight, partner, mask))
    corner = value[..., :2, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: swap(v, partner, mask[..., :2, :2]), corner)


def boxes(height=40, width=24):
    partner, _ = pairs()
    g = torch.Generator().manual_seed(3)
    corners = random_box(torch.rand(8, 3, generator=g, dtype=torch.float64), height, width)
    corners[0] = torch.tensor([3, 5, 3, 9])  # a box of no area
    corners[1] = torch.tensor([0, 0, height, width])
    corners = corners[torch.minimum(partner, torch.arange(8))]
    return partner, box_to_mask(corners, height, width), Places(partner.tolist(), corners.tolist(), (height, width))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(40, 24), (20, 12), (13, 7)])
def test_boxes_are_exchanged_as_any_other_mask_is(size, layout, planes):
    partner, mask, places = boxes()
    value = torch.randn(8, 5, *size).to(torch.bfloat16).to(memory_format=layout).requires_grad_()
    mixed = swap(value, partner, mask, places=places, planes=planes)
    at_size = torch.nn.functional.interpolate(mask.float(), size=size, mode="nearest").bool()
    assert torch.equal(mixed, torch.where(at_size, value[partner], value).to(mixed.dtype))
    if planes:
        assert mixed.dtype == torch.float32
        assert mixed.is_contiguous()
    else:
        assert mixed.dtype == torch.bfloat16
        assert mixed.is_contiguous(memory_format=layout)
    gradient = torch.randn(mixed.shape).to(torch.bfloat16)
    mixed.backward(gradient.to(mixed.dtype))
    assert torch.equal(value.grad, torch.where(at_size, gradient[partner], gradient))
    assert value.grad.is_contiguous(memory_format=layout)
