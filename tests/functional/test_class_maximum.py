"""CorrMatch's threshold by a loop over classes."""

from __future__ import annotations

import torch

from evenseg.functional.class_maximum import class_maximum, moved_threshold


def case(seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 6, (2, 7, 9), generator=g)
    return torch.rand(2, 7, 9, generator=g), torch.where(label == 3, 255, label)  # 3 does not occur


def test_maximum_and_thresholds_are_those_of_a_loop():
    threshold, of_class = torch.tensor(0.85), torch.full((5,), 0.85)
    single, several = 0.85, [0.85] * 5
    for seed in range(5):
        confidence, label = case(seed)
        found = class_maximum(confidence, label, num_classes=5)
        largest = {}
        for c in range(5):
            values = confidence[label == c].tolist()
            assert (found[c] == -1) == (not values)
            if values:
                largest[c] = max(values)
                assert found[c].item() == largest[c]
                several[c] = 0.9 * several[c] + 0.1 * largest[c]
        single = 0.9 * single + 0.1 * sum(largest.values()) / len(largest)
        threshold = moved_threshold(threshold, found, momentum=0.9)
        of_class = moved_threshold(of_class, found, momentum=0.9)
    torch.testing.assert_close(threshold, torch.tensor(single))
    torch.testing.assert_close(of_class, torch.tensor(several))
    assert several[3] == 0.85


def test_nothing_predicted_moves_nothing():
    nothing = class_maximum(torch.rand(4), torch.full((4,), 255), num_classes=3)
    for threshold in (torch.tensor(0.5), torch.tensor([0.1, 0.2, 0.3])):
        assert torch.equal(moved_threshold(threshold, nothing, momentum=0.9), threshold)
