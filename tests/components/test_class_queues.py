"""Queues of classes against Python's."""

from __future__ import annotations

import copy
from collections import deque

import torch
import torch.nn.functional as F

from evenseg.components.class_queues import ClassQueues

SIZES, D = [7, 3, 4], 2


def content(queues, c):
    start = int(queues.start[c])
    return queues.row[start : start + int(queues.filled[c])]


def test_they_hold_what_was_pushed_last():
    generator = torch.Generator().manual_seed(0)
    queues, plain = ClassQueues(SIZES, D), [deque(maxlen=size) for size in SIZES]
    for _ in range(6):
        embedding = torch.randn(2, 3, 2, D, generator=generator)
        used = torch.rand(2, 3, 2, generator=generator) < 0.6
        used[:, 1] &= torch.tensor([[True, True], [True, False]])  # at most what it holds
        queues.push(embedding, used)
        for c, queue in enumerate(plain):
            queue.extend(F.normalize(embedding[:, c], dim=-1)[used[:, c]])
        for c, queue in enumerate(plain):
            got, expected = content(queues, c).tolist(), torch.stack(list(queue)).tolist() if queue else []
            assert sorted(got) == sorted(expected)
        assert not queues.row[-1].any()


def test_more_than_a_queue_holds_are_cut_off():
    queues = ClassQueues([2], D)
    queues.push(torch.eye(2).repeat(3, 1).view(1, 1, 6, D), torch.ones(1, 1, 6, dtype=torch.bool))
    assert queues.filled.tolist() == queues.entered.tolist() == [2]
    assert torch.equal(content(queues, 0), torch.eye(2))


def test_draws_are_of_the_class_alone_and_of_what_there_is():
    queues = ClassQueues(SIZES, D)
    used = torch.tensor([[[True, True], [True, False], [False, False]]])
    queues.push(torch.tensor([[[[1.0, 0], [0, 1]], [[-1, 0], [9, 9]], [[9, 9], [9, 9]]]]), used)
    drawn = queues.draw(torch.arange(15).view(3, 5))
    assert set(map(tuple, drawn[0].tolist())) == {(1.0, 0.0), (0.0, 1.0)}
    assert set(map(tuple, drawn[1].tolist())) == {(-1.0, 0.0)}
    assert not drawn[2].any()


def test_they_are_in_the_state():
    queues = ClassQueues(SIZES, D)
    queues.push(torch.randn(1, 3, 2, D), torch.ones(1, 3, 2, dtype=torch.bool))
    other = ClassQueues(SIZES, D)
    other.load_state_dict(copy.deepcopy(queues.state_dict()))
    assert torch.equal(other.row, queues.row)
    assert torch.equal(other.entered, queues.entered)


def test_a_step_that_is_left_out_is_undone():
    generator = torch.Generator().manual_seed(1)
    queues = ClassQueues(SIZES, D)
    for _ in range(4):  # until they are full
        queues.push(torch.randn(2, 3, 2, D, generator=generator), torch.ones(2, 3, 2, dtype=torch.bool))
    before, entered = queues.row.clone(), queues.entered.clone()
    for bad in (1.0, 0.0):
        queues.begin_step()
        for _ in range(2):  # micro-batches that overwrite each other's
            queues.push(torch.full((2, 3, 1, D), torch.nan), torch.ones(2, 3, 1, dtype=torch.bool))
        written = queues.row.clone()
        queues.roll_back(torch.tensor(bad))
        assert torch.equal(queues.row, before) == bool(bad)
        assert torch.equal(queues.row.isnan(), written.isnan()) == (not bad)
        queues.entered.copy_(entered)  # as the guard does


def test_a_loop_that_does_not_undo_steps_keeps_nothing():
    queues = ClassQueues(SIZES, D)
    queues.push(torch.randn(2, 3, 2, D), torch.ones(2, 3, 2, dtype=torch.bool))
    assert queues._overwritten is None
