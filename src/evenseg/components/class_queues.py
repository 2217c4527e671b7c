"""Queues of embeddings, one for each class, that remember what was pushed into them last."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.functional.distributed import concatenate_over_ranks


class ClassQueues(nn.Module):
    """First in, first out, for each class; the same on all processes.

    They are long, and a step changes few of their rows. So what it overwrites is kept until the next step begins, and
    a step that is left out is undone from that (``training.guard``), where other buffers are copied as a whole; in
    loops that do not ask for it by ``begin_step``, nothing is kept.

    Args:
        sizes: of the queue of each of C classes.
        dimension: of the embeddings, D.
    """

    journaled: ClassVar[tuple[str, ...]] = ("row",)  # buffers that ``roll_back`` restores
    row: Tensor
    entered: Tensor
    size: Tensor
    start: Tensor

    def __init__(self, sizes: list[int], dimension: int) -> None:
        super().__init__()
        size = torch.tensor(sizes)
        self.register_buffer("row", torch.zeros(sum(sizes) + 1, dimension))  # the last one is where padding goes
        self.register_buffer("entered", torch.zeros(len(sizes), dtype=torch.int64))  # embeddings since the beginning
        self.register_buffer("size", size, persistent=False)
        self.register_buffer("start", size.cumsum(0) - size, persistent=False)
        # places and rows of the current step, in order; None where nobody asks for them
        self._overwritten: list[tuple[Tensor, Tensor]] | None = None

    @property
    def filled(self) -> Tensor:
        """How many embeddings each queue holds, (C,) int64."""
        return torch.minimum(self.entered, self.size)

    @torch.no_grad()
    def push(self, embedding: Tensor, used: Tensor) -> None:
        """Puts the embeddings of all processes in, image by image; a queue takes no more at a time than it holds.

        Args:
            embedding: (B, C, Q, D), of any length.
            used: (B, C, Q) bool, False for padding.
        """
        row = concatenate_over_ranks(F.normalize(embedding.float(), dim=3)).transpose(0, 1).flatten(1, 2)
        used = concatenate_over_ranks(used.to(torch.uint8)).bool().transpose(0, 1).flatten(1)
        number = used.cumsum(dim=1)
        used = used & (number <= self.size[:, None])
        place = (self.entered[:, None] + number - 1) % self.size[:, None] + self.start[:, None]
        place = place.where(used, len(self.row) - 1).flatten()
        if self._overwritten is not None:
            self._overwritten.append((place, self.row[place]))
        self.row.index_copy_(0, place, row.flatten(0, 1))
        self.row[-1].zero_()
        self.entered += used.sum(dim=1)

    def begin_step(self) -> None:
        """From here on, what is overwritten is kept; what was before is settled."""
        self._overwritten = []

    @torch.no_grad()
    def roll_back(self, bad: Tensor) -> None:
        """Puts back the rows of before the step where ``bad``, a scalar, is not 0; nothing is waited for."""
        for place, before in reversed(self._overwritten or []):
            self.row.index_copy_(0, place, torch.where(bad.bool(), before, self.row[place]))
        self.row[-1].zero_()
        self._overwritten = []

    def draw(self, noise: Tensor) -> Tensor:
        """Embeddings of unit length, (C, M, D), drawn with replacement; zeros from an empty queue.

        Args:
            noise: (C, M) int64 >= 0, random.
        """
        return self.row[noise % self.filled.clamp(min=1)[:, None] + self.start[:, None]]
