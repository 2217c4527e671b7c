"""Planes on a CPU: the values and gradients of torch's plain operators."""

import pytest
import torch

from evenseg.planes import ROWS, as_planes, largest_plane

SIZES = [(2, 5, ROWS, 4), (1, 3, 2 * ROWS + 3, 7), (2, 21, 1, 1), (2, 1, 9, 5)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_values_stay_and_the_classes_become_planes(shape, dtype, layout):
    logits = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    planes = as_planes(logits)
    assert planes.dtype == torch.float32
    assert planes.is_contiguous()
    assert torch.equal(planes, logits.float())


def test_parts_of_a_map_are_taken_as_they_are():
    logits = torch.randn(3, 4, 21, 30).contiguous(memory_format=torch.channels_last)[1:, :, 2:19, 3:20]
    assert torch.equal(as_planes(logits), logits.contiguous())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_is_the_plain_one_in_the_layout_of_the_logits(dtype, layout):
    logits = torch.randn(2, 5, 19, 6).to(dtype).contiguous(memory_format=layout)
    factor = torch.randn(2, 5, 19, 6)
    found, plain = (logits.clone().requires_grad_() for _ in range(2))
    (as_planes(found) * factor).sum().backward()
    (plain.float() * factor).sum().backward()
    assert found.grad.dtype == dtype
    assert found.grad.is_contiguous(memory_format=layout)
    assert torch.equal(found.grad, plain.grad)


def test_no_gradient_is_asked_for_where_there_is_none():
    assert not as_planes(torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last)).requires_grad


@pytest.mark.parametrize("classes", [1, 2, 21, 255, 256, 300])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_largest_plane_is_that_of_max_also_among_equals(classes, layout):
    value = torch.randint(0, 4, (2, classes, 11, 6)).float().contiguous(memory_format=layout)  # equals everywhere
    largest, plane = largest_plane(value)
    assert torch.equal(largest, value.max(dim=1).values)
    first = [
        [[value[b, :, y, x].tolist().index(value[b, :, y, x].max()) for x in range(6)] for y in range(11)]
        for b in (0, 1)
    ]
    assert torch.equal(plane, torch.tensor(first))


def test_infinite_and_undefined_values_give_a_plane_that_exists():
    value = torch.zeros(1, 3, 1, 3)
    value[0, 1, 0, 0], value[0, 0, 0, 1], value[0, 0, 0, 2] = torch.inf, -torch.inf, torch.nan
    largest, plane = largest_plane(value)
    assert plane[0, 0, :2].tolist() == [1, 1]
    assert 0 <= plane[0, 0, 2] < 3
    assert largest[0, 0, 2].isnan()
