"""Complementary channel dropout: what UniMatch V2's code promises of its masks, and of the keys."""

from __future__ import annotations

import torch

from evenseg.functional.channel_dropout import complementary_dropout, undropped


def test_the_two_masks_sum_to_two_and_one_of_two_neighbours_is_untouched():
    for step in range(20):
        first, second = complementary_dropout(0, step, 0, 8, 64)
        assert torch.equal(first + second, torch.full((8, 64), 2.0))
        whole = (first == 1).all(1)
        assert whole.sum() == 4
        assert torch.equal(whole.view(4, 2).sum(1), torch.ones(4, dtype=torch.int64))
        assert torch.equal(whole, (second == 1).all(1))
        assert set(first[~whole].unique().tolist()) == {0.0, 2.0}


def test_half_of_the_channels_live_and_all_images_have_their_turn():
    masks = torch.stack([complementary_dropout(1, step, 0, 4, 256)[0] for step in range(200)])
    whole = (masks == 1).all(2)
    assert (whole.float().mean(0) - 0.5).abs().max() < 0.15
    dropped = masks[~whole]
    assert abs(dropped.mean() - 1) < 0.01  # the expectation of a channel is what it was
    assert (dropped.mean(0) - 1).abs().max() < 0.3
    assert (dropped[:, 1:] * dropped[:, :-1]).mean().sub(
        1
    ).abs() < 0.02  # neighbouring channels know nothing of another


def test_independent_views_do_not_sum_to_two():
    first, second = complementary_dropout(0, 0, 0, 8, 64, complementary=False)
    assert torch.equal((first == 1).all(1), (second == 1).all(1))
    dropped = ~(first == 1).all(1)
    assert 0.4 < (first[dropped] == second[dropped]).float().mean() < 0.6
    assert torch.equal(first, complementary_dropout(0, 0, 0, 8, 64)[0])


def test_draws_belong_to_slots():
    whole = complementary_dropout(5, 3, 0, 9, 16)
    for start, size in ((0, 4), (4, 5), (3, 3), (1, 1)):
        part = complementary_dropout(5, 3, start, size, 16)
        assert all(torch.equal(a[start : start + size], b) for a, b in zip(whole, part, strict=True))
    assert undropped(5, 3, 0, 1).shape == (1,)
    assert not torch.equal(whole[0], complementary_dropout(5, 4, 0, 9, 16)[0])
