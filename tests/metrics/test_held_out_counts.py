"""Counts of pseudo-labels by image, class and confidence."""

import pytest
import torch

from evenseg.metrics.held_out_counts import BIN_EDGES, BINS, held_out_counts
from evenseg.types import PseudoTarget

CLASSES = 4


def example(seed: int = 0) -> tuple[PseudoTarget, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    prob = (4 * torch.randn(3, CLASSES, 5, 7, generator=g)).softmax(dim=1)
    weight = (torch.rand(3, 5, 7, generator=g) < 0.7).float() * 0.3
    valid = torch.rand(3, 5, 7, generator=g) < 0.8
    truth = torch.randint(0, CLASSES, (3, 5, 7), generator=g)
    truth[torch.rand(3, 5, 7, generator=g) < 0.2] = 255
    truth[0, 0, 0] = -1
    return PseudoTarget(prob, weight, valid), truth


@pytest.mark.parametrize("known", [True, False])
def test_counts_against_a_loop_over_pixels(known):
    target, truth = example()
    kept, right = torch.zeros(2, 3, CLASSES, BINS, dtype=torch.int64)
    true = torch.zeros(3, CLASSES, dtype=torch.int64)
    for image in range(3):
        for y in range(5):
            for x in range(7):
                label = int(target.prob[image, :, y, x].argmax())
                confidence = float(target.prob[image, label, y, x])
                place = sum(confidence >= torch.tensor(edge).item() for edge in BIN_EDGES)
                real = int(truth[image, y, x])
                if not target.valid[image, y, x] or (known and not 0 <= real < CLASSES):
                    continue
                if known:
                    true[image, real] += 1
                if target.weight[image, y, x] > 0:
                    kept[image, label, place] += 1
                    right[image, label, place] += known and real == label
    found = held_out_counts(target, truth if known else None)
    assert torch.equal(found.kept, kept)
    assert torch.equal(found.right, right)
    assert torch.equal(found.true, true if known else torch.zeros_like(true))


def test_a_network_that_is_lost_is_counted_too():
    nothing = PseudoTarget(torch.full((1, CLASSES, 2, 2), torch.nan), torch.ones(1, 2, 2))
    assert held_out_counts(nothing, torch.zeros(1, 2, 2, dtype=torch.int64)).kept.sum() == 4
