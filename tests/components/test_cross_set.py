"""Mixtures of labeled and unlabeled images belong to slots, and come apart again."""

from __future__ import annotations

import pytest
import torch

from evenseg.components.cross_set import CrossSetMixer
from evenseg.functional import random
from evenseg.types import NetworkOutput, Step


def make_step(slot=0, index=3):
    return Step(index, 10, random.generator(0), 0, slot, slot)


def images(first, count, size=32, offset=0):
    """Images that are all of the number of their slot."""
    return torch.arange(first + offset, first + offset + count).float().view(-1, 1, 1, 1).expand(count, 3, size, size)


def test_a_part_of_the_batch_is_mixed_as_in_the_whole():
    mixer = CrossSetMixer()
    whole = mixer.draw(make_step(), images(0, 4), images(0, 4, offset=100))
    mixed = whole(torch.cat([images(0, 4), images(0, 4, offset=100)]))
    for first in (0, 2):
        labeled, unlabeled = images(first, 2), images(first, 2, offset=100)
        part = mixer.draw(make_step(first), labeled, unlabeled)(torch.cat([labeled, unlabeled]))
        assert torch.equal(part[:2], mixed[first : first + 2])
        assert torch.equal(part[2:], mixed[4 + first : 6 + first])
    other = mixer.draw(make_step(index=4), images(0, 4), images(0, 4))
    assert not torch.equal(other(torch.cat([images(0, 4), images(0, 4, offset=100)])), mixed)


@pytest.mark.parametrize(("pairing", "share"), [("random", 2 / 3), ("cross_only", 1.0), ("intra", 0.0)])
def test_who_meets_whom_and_in_which_box(pairing, share):
    mixer, across, heights = CrossSetMixer(pairing), [], []
    size = 40
    for index in range(60):
        mixture = mixer.draw(make_step(index=index), images(0, 2, size), images(0, 2, size))
        across += ((mixture.partner >= 2) != (torch.arange(4) >= 2)).tolist()
        assert torch.equal(mixture.mask, mixture.mask[mixture.partner])
        for mask in mixture.mask[:, 0]:
            rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
            assert mask.sum() == rows * columns
            assert abs(rows * columns - size * size / 2) <= size + 1
            heights.append(rows / size)
    assert sum(across) / len(across) == pytest.approx(share, abs=0.15 if pairing == "random" else 0)
    assert 0.48 <= min(heights) < 0.6
    assert 0.9 < max(heights) <= 1


def test_outputs_come_apart_into_those_of_each_image():
    g = torch.Generator().manual_seed(0)
    mixture = CrossSetMixer().draw(make_step(), images(0, 4), images(0, 4))
    whole = NetworkOutput(
        torch.randn(8, 5, 32, 32, generator=g), heads={"projection": torch.randn(8, 6, 4, 4, generator=g)}
    )
    again = mixture.output(mixture.output(whole))
    assert torch.equal(again.logits, whole.logits)
    assert torch.equal(again.heads["projection"], whole.heads["projection"])


def test_without_pairing_nothing_is_mixed_and_any_number_will_do():
    mixture = CrossSetMixer("none").draw(make_step(), images(0, 3), images(0, 2))
    assert torch.equal(mixture(images(0, 5)), images(0, 5))


@pytest.mark.parametrize(("labeled", "unlabeled"), [((3, 32), (3, 32)), ((2, 32), (4, 32)), ((2, 32), (2, 16))])
def test_odd_and_unequal_numbers_and_sizes_are_refused(labeled, unlabeled):
    with pytest.raises(ValueError, match="equally many, an even number"):
        CrossSetMixer().draw(make_step(), images(0, *labeled), images(0, *unlabeled))
