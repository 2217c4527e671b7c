from __future__ import annotations

import numpy as np
import pytest

from evenseg.data.samplers import Share, Stream


@pytest.mark.parametrize("length", [1, 2, 13])
def test_every_epoch_is_a_permutation_of_all(length: int) -> None:
    stream = Stream(5, "labeled", length)
    for epoch in range(12):  # more epochs than permutations are remembered
        assert sorted(stream.index(draw) for draw in range(epoch * length, (epoch + 1) * length)) == list(range(length))


def test_epochs_streams_and_seeds_differ() -> None:
    def order(seed: int, name: str, epoch: int) -> list[int]:
        return [Stream(seed, name, 50).index(draw) for draw in range(50 * epoch, 50 * (epoch + 1))]

    orders = [order(0, "labeled", 0), order(0, "labeled", 1), order(0, "unlabeled", 0), order(1, "labeled", 0)]
    assert len({tuple(each) for each in orders}) == 4


def test_draws_do_not_depend_on_what_was_drawn_before() -> None:
    stream = Stream(3, "unlabeled", 7)
    forward = [(stream.index(draw), stream.generator(draw).random(3).tolist()) for draw in range(60)]
    backward = [(stream.index(draw), stream.generator(draw).random(3).tolist()) for draw in reversed(range(60))]
    assert forward == backward[::-1]
    assert len({tuple(numbers) for _, numbers in forward}) == 60


def test_first_places_are_uniform() -> None:
    stream = Stream(0, "labeled", 5)
    counts = np.bincount([stream.index(5 * epoch) for epoch in range(1000)], minlength=5)
    assert counts.min() > 150


@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_shares_deal_out_every_slot_once_in_order(world_size: int, micro_batches: int) -> None:
    batch, step = 12, 4
    shares = [Share(batch, rank, world_size, micro_batches) for rank in range(world_size)]
    dealt = [share.draws(step, micro) for share in shares for micro in range(micro_batches)]
    assert [draw for part in dealt for draw in part] == list(range(step * batch, (step + 1) * batch))
    assert {len(part) for part in dealt} == {batch // (world_size * micro_batches)}
    assert [part[0] - step * batch for part in dealt] == [
        share.first_slot(micro) for share in shares for micro in range(micro_batches)
    ]
