import pytest
import torch

from evenseg.functional.boxes import box_to_mask, random_box
from evenseg.functional.mixing import box_mask


def test_box_to_mask_ends_are_exclusive():
    mask = box_to_mask(torch.tensor([[1, 2, 3, 5], [0, 0, 4, 6], [2, 3, 2, 6]]), 4, 6)
    assert mask.shape == (3, 1, 4, 6)
    assert mask.dtype == torch.bool
    assert mask[0, 0].nonzero().tolist() == [[1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4]]
    assert mask[1].all()
    assert not mask[2].any()


@pytest.mark.parametrize("aspect", [None, (0.3, 3.0)])
def test_random_boxes_are_the_ones_of_box_mask(aspect):
    uniform = torch.rand(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = random_box(uniform, 31, 57, area=0.3, aspect=aspect)
    assert boxes.dtype == torch.int64
    mask = box_mask(uniform, 31, 57, area=0.3, aspect=aspect)
    assert torch.equal(box_to_mask(boxes, 31, 57), mask)
    for box, image in zip(boxes.tolist(), mask[:, 0], strict=True):
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert box == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
