"""Leaves out the update of a step whose loss or gradient is not finite, without asking the device.

A flag on the device gates the optimiser (as a gradient scaler does) and puts the buffers back that
the forward pass has changed. Which steps were bad is read at the next logging point only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evenseg.components.class_queues import ClassQueues
from evenseg.functional.distributed import sum_over_ranks, world_size


class Guard:
    """Watches the steps between two logging points.

    Args:
        method: the module whose buffers a bad step must not change.
    """

    def __init__(self, method: nn.Module) -> None:
        self._journals = [module for module in method.modules() if isinstance(module, ClassQueues)]
        own = {id(module.get_buffer(name)) for module in self._journals for name in module.journaled}
        buffers = [b for b in method.buffers() if b.numel() and id(b) not in own]
        self._kinds = [
            [b for b in buffers if b.dtype == dtype] for dtype in sorted({b.dtype for b in buffers}, key=str)
        ]
        self._before: list[Tensor] = []
        self._flags: list[Tensor] = []
        self._steps: list[int] = []

    def remember(self) -> None:
        """Before the forward pass: a copy of all buffers but long queues, one concatenation per dtype."""
        for journal in self._journals:
            journal.begin_step()
        self._before = [torch.cat([b.reshape(-1) for b in kind]) for kind in self._kinds]

    def judge(self, step: int, loss: Tensor, gradients: Iterable[Tensor]) -> Tensor:
        """After the backward pass: 1.0 on the device if the step is bad, else 0.0; equal on all ranks."""
        gradients = list(gradients)
        # the 2-norm is the one that is vectorised on a CPU; beyond 1e19 it overflows, and such a gradient is as bad
        norms = torch._foreach_norm(gradients) if gradients else ()
        largest = [norm.float() for norm in norms]
        judged = torch.stack([loss.detach().float(), *largest])
        bad = (~torch.isfinite(judged).all()).float()
        if world_size() > 1:
            bad = sum_over_ranks(bad).clamp(max=1)
        self._flags.append(bad)
        self._steps.append(step)
        return bad

    @torch.no_grad()
    def restore(self, bad: Tensor) -> None:
        """After the optimiser's step: the buffers of before, where the step is bad."""
        for kind, before in zip(self._kinds, self._before, strict=True):
            now = torch.cat([b.reshape(-1) for b in kind])
            kept = torch.split(torch.where(bad.bool(), before, now), [b.numel() for b in kind])
            torch._foreach_copy_(kind, [part.view_as(b) for part, b in zip(kept, kind, strict=True)])
        for journal in self._journals:
            journal.roll_back(bad)

    def bad_steps(self) -> list[int]:
        """The bad steps since the last call; waits for the device."""
        if not self._flags:
            return []
        flags = torch.stack(self._flags).tolist()
        bad = [step for step, flag in zip(self._steps, flags, strict=True) if flag]
        self._flags, self._steps = [], []
        return bad
