"""A step of a method against one that is written out."""

from __future__ import annotations

import pytest
import torch


def assert_same_step(method, batch, step, student, *, supervised, unsupervised, atol):
    """The losses and gradients of ``method`` are those of ``student``, whose backward pass is made here.

    Args:
        method: with ``student``'s weights before the step; its gradients are accumulated.
        student: the copy that ``supervised`` and ``unsupervised``, the two losses, were computed with.
        atol: of the gradients.
    """
    (supervised + unsupervised).backward()
    output = method(batch, step)
    sum(output.losses.values()).backward()
    assert output.losses["supervised"].item() == pytest.approx(supervised.item(), rel=1e-5)
    assert output.losses["unsupervised"].item() == pytest.approx(unsupervised.item(), rel=1e-4)
    for (name, got), expected in zip(method.student.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=atol, msg=name)
